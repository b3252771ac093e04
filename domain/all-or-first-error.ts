/** Waits for all, so that nothing goes on in the back of who has ended; then throws the first error, if any. */
export const allOrFirstError = async <T>(work: readonly Promise<T>[]): Promise<T[]> => {
  const settled = await Promise.allSettled(work);
  return settled.map((one) => {
    if (one.status === 'rejected') throw one.reason;
    return one.value;
  });
};
