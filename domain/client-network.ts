/** By what clients are told apart where their requests are counted. Pure. */

/**
 * One network of IPv6 has more addresses than anybody can count, so its first half stands for all of them.
 *
 * @param address as a socket has it
 */
export const networkOf = (address: string): string => {
  const mapped = /^::ffff:([0-9.]+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!address.includes(':') || address === '::1') return address;
  const [head = '', tail] = address.split('%')[0]?.split('::') ?? [];
  const groups = head === '' ? [] : head.split(':');
  const rest = tail === undefined || tail === '' ? [] : tail.split(':');
  const missing = tail === undefined ? 0 : Math.max(0, 8 - groups.length - rest.length);
  const filled = [...groups, ...Array<string>(missing).fill('0'), ...rest];
  return `${filled.slice(0, 4).join(':')}::/64`;
};
