/** Addresses as they stand in texts and URLs. Pure. */

/** @returns the address; one of IPv6 in brackets */
export const hostInUrl = (address: string): string => (address.includes(':') ? `[${address}]` : address);

/** @returns an address and a port as one text */
export const hostPort = (address: string, port: number): string => `${hostInUrl(address)}:${port}`;
