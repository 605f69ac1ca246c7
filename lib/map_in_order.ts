// Maps items one after the other, for work whose first failure must be the same in every run.

/**
 * What `map` gives for each item, in their order. Of several items that fail, the first is reported; `Promise.all` would report
 * whichever fails first.
 */
export async function mapInOrder<Item, Result>(
  items: Iterable<Item>,
  map: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = []
  for (const item of items) results.push(await map(item))
  return results
}
