import { addressTowards, defaultRouteInterface, isPrivateAddress } from '../../../workers/own-address';

const HEAD = 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT';
const route = (name: string, destination: string, flags: string, metric: number, mask: string) =>
  `${name}\t${destination}\t0101A8C0\t${flags}\t0\t0\t${metric}\t${mask}\t0\t0\t0`;

test.each([
  ['none', [], undefined],
  ['only a network', [route('eth0', '0001A8C0', '0001', 0, '00FFFFFF')], undefined],
  ['one', [route('eth0', '00000000', '0003', 0, '00000000')], 'eth0'],
  [
    'the preferred of two',
    [route('wlan0', '00000000', '0003', 600, '00000000'), route('eth0', '00000000', '0003', 100, '00000000')],
    'eth0',
  ],
  ['one that is down', [route('eth0', '00000000', '0002', 0, '00000000')], undefined],
])('default route: %s', (_name, lines, expected) => {
  expect(defaultRouteInterface([HEAD, ...lines, ''].join('\n'))).toBe(expected);
});

test.each([
  ['10.1.2.3', true],
  ['172.16.0.1', true],
  ['172.32.0.1', false],
  ['192.168.1.1', true],
  ['100.64.0.1', true],
  ['100.128.0.1', false],
  ['203.0.113.7', false],
  ['127.0.0.1', false],
  ['fd00::1', false],
  ['', false],
])('%s is private: %s', (address, expected) => {
  expect(isPrivateAddress(address)).toBe(expected);
});

test('the address towards a machine is the one that it would see', async () => {
  await expect(addressTowards('127.0.0.1', 9)).resolves.toBe('127.0.0.1');
  await expect(addressTowards('no-such-host.invalid', 9)).rejects.toThrow();
});
