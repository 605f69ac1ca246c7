// Shows what the engine does at the moment: throughput, requests, keys and values.

/** The throughput is an average over this time, so that it does not flicker. */
const WINDOW_MS = 2000

/** Tokens per second from readings of a counter: between the oldest reading in the window and the newest. */
export class Throughput {
  #readings = []

  /** Null until there are two readings. */
  add(tokens, now) {
    const readings = this.#readings
    if (readings.length > 0 && tokens < readings.at(-1).tokens) readings.length = 0 // the counter belongs to another engine
    readings.push({ tokens, now })
    while (readings.length > 2 && now - readings[1].now >= WINDOW_MS) readings.shift()
    const [oldest] = readings
    return now > oldest.now ? (1000 * (tokens - oldest.tokens)) / (now - oldest.now) : null
  }
}

/** @param elements by their ids */
export function showEngine(elements, stats, tokensPerSecond) {
  const { running, waiting, finished, kvBlocksUsed, kvBlocksCached, kvBlocksTotal, kvBytesUsed, kvBytesVanilla } = stats
  elements.throughput.textContent = tokensPerSecond === null ? '–' : `${tokensPerSecond.toFixed(1)} tokens/s`
  elements.requests.textContent = `${running} running, ${waiting} waiting, ${finished} finished`
  elements['kv-meter'].value = kvBlocksUsed / Math.max(1, kvBlocksTotal)
  elements['kv-blocks'].textContent = `${kvBlocksUsed} of ${kvBlocksTotal} blocks, ${kvBlocksCached} more kept`
  elements['kv-bytes'].textContent =
    kvBytesVanilla === 0
      ? '0 MB'
      : `${megabytes(kvBytesUsed)}; ${megabytes(kvBytesVanilla)} if every layer pass cached every token`
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(2)} MB`
}
