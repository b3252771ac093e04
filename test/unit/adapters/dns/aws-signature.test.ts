import { signAws } from '../../../../adapters/dns/aws-signature';

const KEYS = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' };

// Of the test suite that AWS publishes for its signatures.
test.each([
  ['/', '5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31'],
  ['/?Param2=value2&Param1=value1', 'b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500'],
])('%s is signed as AWS does', (path, signature) => {
  const headers = signAws(KEYS, {
    method: 'GET',
    url: new URL(`https://example.amazonaws.com${path}`),
    body: '',
    date: '20150830T123600Z',
    region: 'us-east-1',
    service: 'service',
  });
  expect(headers).toEqual({
    authorization: `AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=${signature}`,
    'x-amz-date': '20150830T123600Z',
  });
});
