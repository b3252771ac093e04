/** Placeholder until the paths are described. */
export const buildOpenApiDocument = (version: string): Record<string, unknown> => ({
  openapi: '3.1.0',
  info: { title: 'ContainerOS', version },
});
