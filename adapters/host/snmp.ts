/** Counters of the kernel's network, of one network namespace. */

/**
 * @param table as /proc/net/snmp: a line of names, and one of numbers, for each protocol
 * @returns undefined when it has no such counter
 */
export const counterIn = (table: string, protocol: 'Tcp' | 'Udp', name: string): number | undefined => {
  const [names = [], numbers = []] = table
    .split('\n')
    .filter((line) => line.startsWith(`${protocol}: `))
    .map((line) => line.split(' '));
  const number = numbers[names.indexOf(name)];
  return number === undefined ? undefined : Number(number);
};
