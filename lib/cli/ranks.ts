// The ranks of `mor train`: how this process joins them, and what they agree on.
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { isDeepStrictEqual } from 'node:util'
import { show } from '../check.js'
import { type DeviceOption, devices, selectDevice } from '../devices.js'
import { joinRanks, launcher, type Ranks } from '../distributed.js'
import { type ErrorCode, MorError, toMorError, wrapNative } from '../errors.js'
import { loadNative } from '../native_loader.js'
import { exitCodeOf, Interruption } from './failure.js'

/** What a rank tells the others of work of its own. */
interface Told {
  stop: { message: string; exitCode: number } | null
  failure: { code: ErrorCode; message: string } | null
  value: unknown
}

/** This process alone, or as one of those that a launcher started. All ranks must make the same calls in the same order. */
export class RunRanks implements AsyncDisposable {
  /** Null: the process is alone. */
  readonly ranks: Ranks | null
  readonly rank: number
  readonly size: number
  /** Aborted, on all ranks alike, once one of them was told to stop. */
  readonly signal: AbortSignal
  readonly #own: AbortSignal
  readonly #stop = new AbortController()

  /** @param own what tells this rank to stop */
  constructor(ranks: Ranks | null, own: AbortSignal) {
    this.ranks = ranks
    this.rank = ranks?.rank ?? 0
    this.size = ranks?.size ?? 1
    this.#own = own
    this.signal = ranks === null ? own : this.#stop.signal
  }

  /** Throws what `launcher` and `joinRanks` throw. */
  static async join(own: AbortSignal): Promise<RunRanks> {
    const found = launcher()
    return new RunRanks(found === null || found.size === 1 ? null : await joinRanks({ signal: own }), own)
  }

  /**
   * Runs `work`, which makes no calls of ranks. If it fails on some of them, all throw: each of those its own error, and the others
   * one with the code and the message of the first, which names its rank.
   */
  async together<T>(work: () => Promise<T>): Promise<T> {
    return (await this.#tell(work, () => null)).own
  }

  /** The value of `work`, plain JSON, of rank 0, which alone runs it. Throws as `together`. */
  async first<T>(work: () => Promise<T>): Promise<T> {
    const { own, values } = await this.#tell(
      async () => (this.rank === 0 ? await work() : null),
      (value) => value,
    )
    return this.rank === 0 ? (own as T) : (values[0] as T)
  }

  /**
   * What `work` reads from files that all ranks must see. Rank 0 is first, so that what another one does not find is not shared with it.
   * Throws as `together`.
   */
  async read<T>(work: () => Promise<T>): Promise<T> {
    const first = await this.together(async () => (this.rank === 0 ? work() : null))
    return this.together(async () => {
      if (this.rank === 0) return first as T
      return work().catch((error: unknown) => {
        const { code, message } = toMorError(error)
        if (code === 'ABORTED') throw error
        const advice =
          'rank 0 could read it: give all ranks the same files, on several machines by a network file system'
        throw new MorError(code, `${message}; ${advice}`, { cause: error })
      })
    })
  }

  /** Throws `INVALID_ARGUMENT` on every rank, naming the first of these values in which they differ. */
  async same(values: Record<string, unknown>): Promise<void> {
    const { values: all } = await this.#tell(async () => values, Object.entries)
    const [first, ...others] = all.map((entries) => new Map(entries as [string, unknown][]))
    for (const [i, other] of others.entries()) {
      for (const key of new Set([...first!.keys(), ...other.keys()])) {
        if (isDeepStrictEqual(first!.get(key), other.get(key))) continue
        throw new MorError(
          'INVALID_ARGUMENT',
          `ranks differ in ${key}: ${shown(first!.get(key))} on rank 0, but ${shown(other.get(key))} on rank ${i + 1}; start all ranks with the same command, files and version`,
        )
      }
    }
  }

  /**
   * The device of this rank. Throws what `selectDevice` throws, `COMMUNICATION_FAILED` if ranks cannot train together on it, and
   * `INVALID_ARGUMENT` if some are on CPUs and others on GPUs.
   */
  async device(option: DeviceOption): Promise<DeviceOption> {
    const device = await this.together(async () => {
      const chosen = selectDevice(option, loadNative())
      wrapNative(() => this.ranks?.native.requireDevice(chosen))
      return chosen as DeviceOption
    })
    await this.same({ 'the kind of their devices': device.startsWith('cuda') ? 'cuda' : device })
    return device
  }

  /** Threads of this rank unless told otherwise: its share of the processors that it has together with others. */
  async defaultThreads(): Promise<number> {
    const place = `${hostname()} ${allowedProcessors()}`
    const { values } = await this.#tell(
      async () => place,
      (value) => value,
    )
    const sharing = values.filter((other) => other === place).length
    const processors = devices().find(({ id }) => id === 'cpu')?.threads ?? 1
    return Math.max(1, Math.floor(processors / sharing))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ranks?.dispose()
  }

  async #tell<T>(work: () => Promise<T>, reportOf: (own: T) => unknown): Promise<{ own: T; values: unknown[] }> {
    if (this.ranks === null) {
      const own = await work()
      return { own, values: [reportOf(own)] }
    }
    let own: T
    try {
      own = await work()
    } catch (error) {
      const { code, message } = toMorError(error)
      // The others get their own error where this rank cannot tell them.
      await this.#gather({ stop: this.#ownStop(), failure: { code, message }, value: null }).catch(() => {})
      throw error
    }
    const told = await this.#gather({ stop: this.#ownStop(), failure: null, value: reportOf(own) })
    for (const [rank, { failure }] of told.entries()) {
      if (failure === null) continue
      const cause = failure.code === 'ABORTED' ? this.signal.reason : undefined
      throw new MorError(failure.code, `rank ${rank}: ${failure.message}`, { cause })
    }
    return { own, values: told.map(({ value }) => value) }
  }

  async #gather(told: Told): Promise<Told[]> {
    const all = (await this.ranks!.gather(JSON.stringify(told))).map((text) => JSON.parse(text) as Told)
    for (const [rank, { stop }] of all.entries()) {
      if (stop === null || this.signal.aborted) continue
      this.#stop.abort(new Interruption(`rank ${rank} was ${stop.message}`, stop.exitCode))
    }
    return all
  }

  #ownStop(): Told['stop'] {
    if (!this.#own.aborted) return null
    return { message: toMorError(this.#own.reason).message, exitCode: exitCodeOf(this.#own.reason) }
  }
}

/**
 * The rows of a micro-batch that each of `size` ranks takes.
 * @param resumed whether the number of rows cannot change any more
 * @throws {MorError} INVALID_ARGUMENT where they have no equal parts
 */
export function rowsOfRank(batchSize: number, size: number, resumed: boolean): number {
  if (batchSize % size === 0) return batchSize / size
  const problem = `--batch-size is ${batchSize}, the rows of all ranks together, which ${size} ranks do not divide`
  if (resumed) {
    const divisors = Array.from({ length: batchSize }, (_, i) => i + 1).filter((n) => batchSize % n === 0)
    const fewer = divisors.filter((n) => n < size).at(-1)!
    const more = divisors.find((n) => n > size)
    throw new MorError(
      'INVALID_ARGUMENT',
      `${problem}; the run goes on with ${fewer}${more === undefined ? '' : ` or ${more}`} of them`,
    )
  }
  const lower = Math.floor(batchSize / size) * size
  throw new MorError('INVALID_ARGUMENT', `${problem}; give ${lower > 0 ? `${lower} or ` : ''}${lower + size}`)
}

/** The part of a dataset, or of a mix of them, that gives rows in order. */
interface Rows {
  next(rows: number): Promise<Int32Array[]>
  skip(rows: number): void
}

/**
 * This rank's rows of a step: of every micro-batch the part at its place. All ranks go on by whole steps, so the place in the data does
 * not depend on how many there are.
 * @param rows of one micro-batch of one rank
 */
export async function nextRows(
  data: Rows,
  { rows, microBatches, rank, size }: { rows: number; microBatches: number; rank: number; size: number },
): Promise<Int32Array[]> {
  const parts: Promise<Int32Array[]>[] = []
  for (let m = 0; m < microBatches; m++) {
    data.skip(rank * rows)
    parts.push(data.next(rows))
    data.skip((size - rank - 1) * rows)
  }
  return (await Promise.all(parts)).flat()
}

/** Those that the process may run on, as Linux writes them. A launcher may have given each rank its own. */
function allowedProcessors(): string {
  try {
    return /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? ''
  } catch {
    return ''
  }
}

function shown(value: unknown): string {
  if (value === undefined) return 'nothing'
  return typeof value === 'string' ? value : show(value)
}
