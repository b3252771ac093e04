/** @returns how many bytes the value has as JSON in UTF-8 */
export const jsonBytes = (value: unknown): number => new TextEncoder().encode(JSON.stringify(value)).length;
