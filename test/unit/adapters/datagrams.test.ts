/** What the kernel's tables say of datagrams. */

import { countDatagrams, datagramsIn, datagramsIn6 } from '../../../adapters/host/datagrams';

test('datagrams that came and went are counted, and those that were lost are not', () => {
  const table = [
    'Tcp: InSegs OutSegs',
    'Tcp: 7 7',
    'Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors',
    'Udp: 30 4 5 12 6',
    'UdpLite: InDatagrams NoPorts InErrors OutDatagrams',
    'UdpLite: 90 0 0 90',
  ];
  expect(datagramsIn(table.join('\n'))).toBe(42);
  const table6 = ['Ip6InReceives \t9', 'Udp6InDatagrams  \t3', 'Udp6NoPorts \t9', 'Udp6OutDatagrams \t4'];
  expect(datagramsIn6(`${table6.join('\n')}\n`)).toBe(7);
});

test('of a process that is gone nothing is known', async () => {
  expect(await countDatagrams(process.pid)).toBeGreaterThanOrEqual(0);
  expect(await countDatagrams(2 ** 22 + 1)).toBeUndefined();
});
