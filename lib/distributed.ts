// Ranks: the processes that train one model together, and how this one joins the others (docs/distributed.md).
import { Checker, show } from './check.js'
import { throwIfAborted, wrapNative, wrapNativeAsync } from './errors.js'
import type { DType } from './native/model.js'
import type { NativeRanks } from './native/ranks.js'
import type { NativeTrainerOptions } from './native/trainer.js'
import { loadNative } from './native_loader.js'

/** The timeouts of the first join hold for the whole process. */
export interface JoinOptions {
  /** Seconds that ranks wait for each other to start. Default 300. */
  joinTimeout?: number
  /** Seconds without a sign of life after which a rank counts as lost. Default 20. */
  silenceTimeout?: number
  signal?: AbortSignal
}

/** The program that started this process as one rank of several. */
export interface Launcher {
  /** Such as "Open MPI's mpirun". */
  name: string
  /** From 0. */
  rank: number
  size: number
  /** The place among the ranks of the same machine, from 0; null where the launcher does not say it. */
  localRank: number | null
}

/** How a trainer works with other ranks. */
export interface DistributedOptions {
  ranks: Ranks
  /** In which gradients travel; they are added up in float32. bfloat16 halves what is sent and rounds. Default float32. */
  gradientDtype?: DType
  /** Bytes of the gradient, in float32, that travel together, for all ranks. Default 16 MiB. */
  bucketBytes?: number
}

/**
 * The launcher that started this process: Open MPI's mpirun, MPICH's mpiexec, srun or torchrun; null if none did.
 * @throws {MorError} COMMUNICATION_FAILED if its environment variables say no rank
 */
export function launcher(): Launcher | null {
  const addon = loadNative()
  return wrapNative(() => addon.launcher())
}

/**
 * Joins the ranks that a launcher started, and waits for all of them: over MPI, or, under torchrun, over TCP, whose ranks can train on GPUs
 * only. A process is part of one set of ranks at a time, its worker threads included. A launcher that started one rank only needs no MPI
 * library.
 * @throws {MorError} COMMUNICATION_FAILED if no launcher started this process, if its MPI library is missing or another one, and if ranks do
 * not start in time; INVALID_ARGUMENT, ABORTED
 */
export async function joinRanks(options: JoinOptions = {}): Promise<Ranks> {
  const check = Checker.of(options, 'joinRanks')
  check.onlyKeys(['joinTimeout', 'silenceTimeout', 'signal'])
  const joinTimeout = check.number('joinTimeout', { above: 0, fallback: 300 })
  const silenceTimeout = check.number('silenceTimeout', { above: 0, fallback: 20 })
  const signal = check.signal()
  throwIfAborted(signal, 'joining the other ranks')
  const addon = loadNative()
  return new Ranks(await wrapNativeAsync(() => addon.joinRanks({ joinTimeout, silenceTimeout }, signal), signal))
}

/** This process among the ranks that `joinRanks` joined. */
export class Ranks {
  /** From 0. */
  readonly rank: number
  readonly size: number
  /** For the trainer. */
  readonly native: NativeRanks
  #disposing: Promise<void> | undefined

  /** Only for `joinRanks`. */
  constructor(native: NativeRanks) {
    this.native = native
    this.rank = native.rank()
    this.size = native.size()
  }

  /**
   * What every rank gave, by rank. All ranks must call it, and in the same order as they make a trainer and call its steps and saves: await it
   * before the next of these, because a trainer's calls have another thread, which could come first.
   * @throws {MorError} COMMUNICATION_FAILED, DISPOSED; on all ranks INVALID_ARGUMENT if one of them gives no string
   */
  async gather(text: string): Promise<string[]> {
    return wrapNativeAsync(() =>
      typeof text === 'string'
        ? this.native.gather(text)
        : // The others have begun the call that this rank refuses.
          this.native.fail('INVALID_ARGUMENT', `gather: text is ${show(text)}; give a string`),
    )
  }

  /** Leaves the other ranks: steps under way and later ones fail with COMMUNICATION_FAILED, on this rank and on the others. */
  dispose(): Promise<void> {
    this.#disposing ??= wrapNativeAsync(() => this.native.dispose())
    return this.#disposing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }
}

/**
 * The options of a trainer as the addon gets them.
 * @param training those that all ranks must have alike
 * @throws {MorError} INVALID_ARGUMENT with the option, its value and what is allowed
 */
export function toNativeDistributed(
  options: DistributedOptions | null | undefined,
  training: object,
): NativeTrainerOptions['distributed'] {
  if (options === null || options === undefined) return null
  const check = Checker.of(options, 'Trainer: distributed')
  check.onlyKeys(['ranks', 'gradientDtype', 'bucketBytes'])
  const { ranks } = options
  if (!(ranks instanceof Ranks)) return check.fail(`ranks is ${show(ranks)}; give what joinRanks resolves to`)
  return {
    ranks: ranks.native,
    gradientDtype: check.choice('gradientDtype', ['float32', 'bfloat16'], 'float32'),
    bucketBytes: check.integer('bucketBytes', { min: 4, max: Number.MAX_SAFE_INTEGER, fallback: 2 ** 24 }),
    sameOnAll: Object.entries(training).map(([name, value]) => ({ name, value: JSON.stringify(value) })),
  }
}
