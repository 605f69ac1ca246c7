// The counts of all engines that a server has had: of the one that is served, and of those that were replaced.
import type { EngineStats } from '../native/engine.js'
import type { ServedEngine } from './options.js'

const nothingHeld = {
  running: 0,
  waiting: 0,
  kvBlocksTotal: 0,
  kvBlocksUsed: 0,
  kvBlocksCached: 0,
  kvBlocksFree: 0,
  kvBytesTotal: 0,
  kvBytesUsed: 0,
  kvBytesVanilla: 0,
}

export class EngineTotals {
  /** With what each counted when it was last asked; null: it was not. */
  readonly #engines: Map<ServedEngine, EngineStats | null>
  /** Of the engines that were taken out. */
  #before: EngineStats | null = null

  constructor(first: ServedEngine) {
    this.#engines = new Map([[first, null]])
  }

  add(engine: ServedEngine): void {
    if (!this.#engines.has(engine)) this.#engines.set(engine, null)
  }

  /** The engine's requests have ended: what it counted stays, what it held does not. */
  takeOut(engine: ServedEngine): void {
    const last = this.#lastStats(engine)
    this.#engines.delete(engine)
    if (last === null) return
    const ended = { ...last, ...nothingHeld }
    this.#before = this.#before === null ? ended : sum(this.#before, ended)
  }

  /** @throws {MorError} DISPOSED if an engine is closed */
  stats(): EngineStats {
    for (const engine of this.#engines.keys()) this.#engines.set(engine, engine.stats())
    const all = [...this.#engines.values()].filter((stats) => stats !== null)
    return [...all, ...(this.#before === null ? [] : [this.#before])].reduce(sum)
  }

  /** An engine may have been closed before it was replaced, and then says nothing any more. */
  #lastStats(engine: ServedEngine): EngineStats | null {
    try {
      return this.#engines.has(engine) ? engine.stats() : null
    } catch {
      return this.#engines.get(engine)!
    }
  }
}

function sum(a: EngineStats, b: EngineStats): EngineStats {
  const keys = Object.keys(a) as (keyof EngineStats)[]
  const entries = keys.map((key) => {
    const [x, y] = [a[key], b[key]]
    return [key, typeof x === 'number' ? x + (y as number) : sumOf(x, y as readonly number[])]
  })
  return Object.fromEntries(entries)
}

/** Of two models, which may have different numbers of recursions. */
function sumOf(a: readonly number[], b: readonly number[]): number[] {
  return Array.from({ length: Math.max(a.length, b.length) }, (_, i) => (a[i] ?? 0) + (b[i] ?? 0))
}
