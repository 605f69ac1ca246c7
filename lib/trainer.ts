// The public Trainer: optimizer steps and evaluation on one Model, saved and resumed bit for bit.
// Must not do arithmetic on tensors or know the layout of a training checkpoint (trainer_checkpoint does).
import { Checker } from './check.js'
import { MorError, wrapNativeAsync } from './errors.js'
import { type LoadOptions, Model } from './model.js'
import type { ModelHandle } from './model_handle.js'
import type { NativeEvaluateStats, NativeStepStats, NativeTrainer, Routing } from './native.js'
import { packRows } from './tokens.js'
import { readTrainerCheckpoint, restoreTrainerState, saveTrainerCheckpoint } from './trainer_checkpoint.js'
import {
  type ResolvedTrainerOptions,
  resolveTrainerOptions,
  type TrainerOptions,
  toNativeTrainerOptions,
} from './trainer_options.js'

/** Measurements of one step; loss terms in nats per token. */
export interface StepResult extends NativeStepStats {
  tokensPerSecond: number
}

export interface EvaluateResult extends NativeEvaluateStats {
  tokensPerSecond: number
}

export interface EvaluateOptions {
  /** 'topk': as in training; 'threshold' (default): causal, as in generation. */
  routing?: Routing
  signal?: AbortSignal
}

/** Where to resume, and which of the saved options to change. The precision is the saved one. */
export type ResumeOptions = Omit<LoadOptions, 'dtype'> & Partial<TrainerOptions>

/**
 * Trains one Model. Steps run in the order of their calls, take turns with the model's other calls, and never block the
 * event loop. A step that fails (NON_FINITE, say) leaves weights and optimizer as they were.
 */
export class Trainer {
  readonly model: Model
  /** Complete: with every default filled in. */
  readonly options: ResolvedTrainerOptions
  readonly #handle: ModelHandle
  readonly #native: Promise<NativeTrainer>
  #disposed = false
  #stepsDone = 0

  /** @throws {MorError} INVALID_ARGUMENT, DISPOSED. A lack of memory shows in the first call. */
  constructor(model: Model, options: TrainerOptions) {
    this.model = model
    this.options = resolveTrainerOptions(options)
    this.#handle = model.handle
    this.#handle.assertAlive()
    const { addon, native } = this.#handle
    this.#native = this.#handle.run(() => addon.createTrainer(native, toNativeTrainerOptions(this.options)), {
      what: 'making the trainer',
      interruptible: false,
    })
    this.#native.catch(() => undefined)
  }

  /**
   * Goes on where `save` left off, bit for bit. The model it loads is `trainer.model`, and disposing it is up to you.
   * @throws {MorError} as `Model.load`, and CHECKPOINT_INVALID for files that do not belong together
   */
  static async resume(folder: string, options: ResumeOptions = {}): Promise<Trainer> {
    const { device, threads, signal, ...changes } = options
    const saved = await readTrainerCheckpoint(folder)
    const model = await Model.load(folder, { device, threads, signal, dtype: saved.dtype })
    try {
      const trainer = new Trainer(model, { ...saved.options, ...withoutUndefined(changes) })
      await trainer.#run('resuming', undefined, false, (native) => restoreTrainerState(model.handle, native, saved))
      trainer.#stepsDone = saved.step
      return trainer
    } catch (error) {
      await model.dispose()
      throw error
    }
  }

  /** Optimizer steps done so far, those before a resume included. */
  get stepsDone(): number {
    return this.#stepsDone
  }

  /**
   * One optimizer step on a batch.
   * @param batch rows of T + 1 token ids: each token predicts the next. Their number must be a multiple of
   * gradientAccumulation, which splits them in order.
   * @param options.signal aborts a step that has not started; one that has is finished and reported.
   * @throws {MorError} NON_FINITE (loss or gradient; nothing was changed), TOKEN_OUT_OF_RANGE, CONTEXT_OVERFLOW,
   * INVALID_ARGUMENT, OUT_OF_MEMORY, ABORTED, DISPOSED
   */
  async step(batch: readonly ArrayLike<number>[], options: { signal?: AbortSignal } = {}): Promise<StepResult> {
    this.#assertAlive()
    Checker.of(options, 'step').onlyKeys(['signal'])
    const { tokens, batch: rows, columns } = packRows(batch, this.model.config, 1)
    const parts = this.options.gradientAccumulation
    if (rows % parts !== 0) {
      throw new MorError(
        'INVALID_ARGUMENT',
        `the batch has ${rows} rows, which gradientAccumulation ${parts} does not divide`,
      )
    }
    const stats = await this.#run('the step', options.signal, false, (native) =>
      native.step(tokens, parts, rows / parts, columns - 1),
    )
    this.#stepsDone = stats.step
    return { ...stats, tokensPerSecond: stats.tokens / stats.seconds }
  }

  /**
   * Loss on a batch of T + 1 token rows, without a change of any state.
   * @throws {MorError} as `step`
   */
  async evaluate(batch: readonly ArrayLike<number>[], options: EvaluateOptions = {}): Promise<EvaluateResult> {
    this.#assertAlive()
    const check = Checker.of(options, 'evaluate')
    check.onlyKeys(['routing', 'signal'])
    const routing = check.choice('routing', ['topk', 'threshold'], 'threshold')
    const { tokens, batch: rows, columns } = packRows(batch, this.model.config, 1)
    const stats = await this.#run('the evaluation', options.signal, true, (native) =>
      native.evaluate(tokens, rows, columns - 1, routing),
    )
    return { ...stats, tokensPerSecond: stats.tokens / stats.seconds }
  }

  /**
   * Saves everything that `resume` needs, as a checkpoint folder that `Model.load` reads too: float32 weights, optimizer
   * state, random state, step and options. Written aside and renamed, as `Model.save`.
   * @throws {MorError} IO_ERROR, DISPOSED
   */
  async save(folder: string): Promise<void> {
    this.#assertAlive()
    await this.#run(`saving ${folder}`, undefined, false, (native) =>
      saveTrainerCheckpoint(this.#handle, native, this.options, folder),
    )
  }

  /** Gives the optimizer's memory back, not the model's; calls under way reject with DISPOSED. */
  async dispose(): Promise<void> {
    this.#disposed = true
    await this.#native.then(
      (native) => native.dispose(),
      () => undefined,
    )
    await this.#handle.idle()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  async #run<T>(
    what: string,
    signal: AbortSignal | undefined,
    interruptible: boolean,
    task: (native: NativeTrainer) => Promise<T>,
  ): Promise<T> {
    const guarded = async () => {
      this.#assertAlive()
      return wrapNativeAsync(async () => task(await this.#native))
    }
    return this.#handle.run(guarded, { signal, what, interruptible })
  }

  #assertAlive(): void {
    if (this.#disposed) throw new MorError('DISPOSED', 'the trainer is disposed; make another or resume one')
    this.#handle.assertAlive()
  }
}

function withoutUndefined<T extends object>(object: T): T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T
}
