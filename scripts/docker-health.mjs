// The image's health check: whether the API says that it is healthy. It runs beside the API, with the same variables.
const host = process.env.CONTAINEROS_API_HOST || '127.0.0.1';
const port = process.env.CONTAINEROS_API_PORT || '8000';
// An API that listens on every address answers on loopback, too.
const address = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;

try {
  const response = await fetch(`http://${address.includes(':') ? `[${address}]` : address}:${port}/healthz`, {
    signal: AbortSignal.timeout(4_000),
  });
  if (!response.ok) throw new Error(`/healthz answered ${response.status}`);
} catch (error) {
  console.error(error.cause?.message ?? error.message);
  process.exitCode = 1;
}
