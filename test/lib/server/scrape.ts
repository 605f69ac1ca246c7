// Reads /metrics of a server.

/** The values by the metrics' names, summed over their labels; without the buckets of histograms. */
export async function scrape(url: string): Promise<Record<string, number>> {
  const metrics: Record<string, number> = {}
  for (const line of (await (await fetch(`${url}/metrics`)).text()).split('\n')) {
    const [, name, value] = /^([^#{\s]+)\S* (\S+)$/.exec(line) ?? []
    if (name !== undefined && !name.endsWith('_bucket')) metrics[name] = (metrics[name] ?? 0) + Number(value)
  }
  return metrics
}
