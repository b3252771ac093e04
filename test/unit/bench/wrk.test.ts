// What is read from wrk: figures in all of its units, and no figure where requests failed.
import { parseWrk, wrkArguments } from '../../../bench/ingress/wrk';

const output = (failures = ''): string => `Running 2s test @ http://127.0.0.1:18080/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.35ms    2.10ms  45.00ms   93.90%
    Req/Sec    24.46k     3.29k   29.95k    65.00%
  Latency Distribution
     50%  812.00us
     75%    1.27ms
     90%    2.99ms
     99%    1.02s 
  48933 requests in 2.01s, 7.93MB read
${failures}Requests/sec:  24463.17
Transfer/sec:      3.97MB
`;

test('times are read in all of its units', () => {
  expect(parseWrk(output())).toEqual({
    requests: 48_933,
    seconds: 2.01,
    requestsPerSecond: 24_463.17,
    p50Ms: 0.812,
    p99Ms: 1_020,
  });
  expect(parseWrk(output().replace('requests in 2.01s', 'requests in 1.50m')).seconds).toBe(90);
});

test.each(['  Socket errors: connect 0, read 3, write 0, timeout 0\n', '  Non-2xx or 3xx responses: 12\n'])(
  'failed requests are no measurement: %j',
  (failures) => {
    expect(() => parseWrk(output(failures))).toThrow(`requests failed: ${failures.trim()}`);
  },
);

test('what is not understood is told', () => {
  expect(() => parseWrk('unable to connect')).toThrow('unable to connect');
  expect(() => parseWrk(output().replace('812.00us', '812.00hours'))).toThrow('812.00hours');
});

test('a connection of its own for each request is asked for by a header', () => {
  const target = { url: 'http://127.0.0.1:1/', hostname: 'web.localhost', connections: 8, seconds: 2 };
  expect(wrkArguments(target).join(' ')).toContain('--connections 8 --duration 2s');
  expect(wrkArguments(target)).not.toContain('Connection: close');
  expect(wrkArguments({ ...target, closes: true })).toContain('Connection: close');
});
