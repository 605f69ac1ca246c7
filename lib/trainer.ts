// The public Trainer: optimizer steps and evaluation on one Model, saved and resumed bit for bit.
import { Checker, checkPath, show } from './check.js'
import { type Ranks, toNativeDistributed } from './distributed.js'
import { MorError, throwIfAborted, toMorError, wrapNative, wrapNativeAsync } from './errors.js'
import { type LoadOptions, Model } from './model.js'
import type { Routing } from './native/model.js'
import type { NativeEvaluateStats, NativeStepStats, NativeTrainer, NativeTrainerOptions } from './native/trainer.js'
import { loadNative } from './native_loader.js'
import { checkSameFrozen } from './parameter_groups.js'
import { removeOtherFiles } from './tokenizer/files.js'
import type { TokenizerFile } from './tokenizer/interface.js'
import { readMasters, readTrainerCheckpoint, restoreTrainerState, saveTrainerCheckpoint } from './trainer_checkpoint.js'
import {
  type ResolvedTrainerOptions,
  resolveTrainerOptions,
  type TrainerOptions,
  toNativeTrainerOptions,
} from './trainer_options.js'
import { type PackedTrainingRows, packTrainingRows, type TrainingRow } from './training_rows.js'

/** Measurements of one step; loss terms in nats per token. */
export interface StepResult extends NativeStepStats {
  tokensPerSecond: number
}

export interface EvaluateResult extends NativeEvaluateStats {
  tokensPerSecond: number
}

export interface EvaluateOptions {
  /** 'topk': as in training unless that selects by threshold; 'threshold' (default): causal, as in generation. */
  routing?: Routing
  signal?: AbortSignal
}

/**
 * Where to resume, and which of the saved options to change. The precision is the saved one. Where the run learns from a teacher,
 * that must be given again.
 */
export type ResumeOptions = Omit<LoadOptions, 'dtype'> & Partial<TrainerOptions>

/**
 * Trains one Model, which can have one trainer at a time. Calls run in the order in which they are made, the model's own
 * among them, and never block the event loop. A step that fails (NON_FINITE, say) leaves weights and optimizer as they
 * were.
 */
export class Trainer {
  readonly model: Model
  /** Complete: with every default filled in. */
  readonly options: ResolvedTrainerOptions
  /** Of distillation. Disposing it is up to you. */
  readonly teacher: Model | null
  /** Those that it trains with; null: none. Disposing them is up to you. */
  readonly ranks: Ranks | null
  readonly #native: NativeTrainer
  #disposing: Promise<void> | undefined

  /**
   * @throws {MorError} INVALID_ARGUMENT (also while the model has another trainer), DISPOSED, COMMUNICATION_FAILED if the ranks cannot
   * train on the model's device. A lack of memory, and of NCCL between GPUs, shows in the first call.
   */
  constructor(model: Model, options: TrainerOptions) {
    if (!(model instanceof Model)) {
      throw new MorError(
        'INVALID_ARGUMENT',
        `Trainer: the model is ${show(model)}; give what Model.create or Model.load resolves to`,
      )
    }
    this.model = model
    this.options = resolveTrainerOptions(options)
    this.teacher = teacherOf(options, model)
    // Ranks may have different numbers of rows, and of memory.
    const { gradientAccumulation: _, recompute: _ofMemory, ...training } = this.options
    const distributed = toNativeDistributed(options.distributed, training)
    this.ranks = options.distributed?.ranks ?? null
    this.#native = wrapNative(() => {
      const own = toNativeTrainerOptions(this.options, model.config, model.native.parameters())
      return loadNative().createTrainer(model.native, { ...own, distillation: this.#distillation(), distributed })
    })
  }

  /**
   * Goes on where `save` left off, bit for bit, on any number of ranks. The model it loads is `trainer.model`, and disposing it is up to you.
   * @throws {MorError} as `Model.load`, and CHECKPOINT_INVALID for files that do not belong together
   */
  static async resume(folder: string, options: ResumeOptions = {}): Promise<Trainer> {
    Checker.of(options, 'Trainer.resume')
    const { device, threads, nice, signal, tokenizer, ...changes } = options
    checkPath(folder, 'Trainer.resume: the folder')
    const saved = await readTrainerCheckpoint(folder)
    const training = resumedOptions(saved.options, changes, folder)
    resolveTrainerOptions(training) // What is wrong with them is said before the model is read.
    const model = await Model.load(folder, { device, threads, nice, signal, tokenizer, dtype: saved.dtype })
    try {
      checkSameFrozen(saved.options.parameterGroups, training.parameterGroups ?? [], model.native.parameters())
      const trainer = new Trainer(model, training)
      await wrapNativeAsync(async () => restoreTrainerState(model, trainer.#native, saved))
      // The files were opened by name more than once.
      if ((await readTrainerCheckpoint(folder)).saveId !== saved.saveId)
        throw new MorError('CHECKPOINT_INVALID', `${folder} was saved into while it was read; resume again`)
      return trainer
    } catch (error) {
      await model.dispose()
      throw error
    }
  }

  /**
   * Starts training from the weights of a checkpoint, of any kind that `Model.load` reads, with a fresh optimizer. The trained
   * weights begin with the precision that they have in the files, of which a bfloat16 model alone keeps a part. The model is
   * `trainer.model`, and disposing it is up to you.
   * @throws {MorError} as `Model.load` and the constructor
   */
  static async fromCheckpoint(folder: string, options: LoadOptions & TrainerOptions): Promise<Trainer> {
    Checker.of(options, 'Trainer.fromCheckpoint')
    const { device, dtype, threads, nice, signal, tokenizer, ...own } = options
    const model = await Model.load(folder, { device, dtype, threads, nice, signal, tokenizer })
    try {
      const trainer = new Trainer(model, own)
      await wrapNativeAsync(() => readMasters(trainer.#native, folder))
      return trainer
    } catch (error) {
      await model.dispose()
      throw error
    }
  }

  #distillation(): NativeTrainerOptions['distillation'] {
    const { distillation } = this.options
    return distillation && this.teacher && { ...distillation, teacher: this.teacher.native }
  }

  /** Optimizer steps done so far, those before a resume included. */
  get stepsDone(): number {
    return this.#native.stepsDone()
  }

  /**
   * One optimizer step on a batch.
   * @param batch rows of T + 1 token ids: each token predicts the next. Their number must be a multiple of
   * gradientAccumulation, which splits them in order. A row may say which of its tokens count in the loss, which is the mean
   * over all that do. Rows may have different lengths; those of one length run together, so few lengths train faster.
   * @param options.signal aborts a step that has not started; one that has is finished and reported. With ranks, a signal
   * that has aborted before the call aborts the step of all of them, and one that aborts later does nothing.
   * @throws {MorError} NON_FINITE (loss or gradient; nothing was changed), TOKEN_OUT_OF_RANGE, CONTEXT_OVERFLOW,
   * INVALID_ARGUMENT, OUT_OF_MEMORY, ABORTED, DISPOSED, COMMUNICATION_FAILED. Of several ranks, all throw what one of them throws.
   */
  async step(batch: readonly TrainingRow[], options: { signal?: AbortSignal } = {}): Promise<StepResult> {
    let rows: PackedTrainingRows
    let given: AbortSignal | undefined
    try {
      const check = Checker.of(options, 'step')
      check.onlyKeys(['signal'])
      given = check.signal()
      if (this.ranks !== null) throwIfAborted(given, 'a step')
      rows = packTrainingRows(batch, this.model.config, this.options.gradientAccumulation)
    } catch (error) {
      return this.#fail('step', error)
    }
    const { tokens, counts, shapes } = rows
    // A step that leaves the queue of one rank would leave the others waiting.
    const signal = this.ranks === null ? given : undefined
    const stats = await wrapNativeAsync(() => this.#native.step(tokens, counts, shapes, signal), signal)
    return { ...stats, tokensPerSecond: stats.tokens / stats.seconds }
  }

  /** Throws the error, on all ranks: the others have begun what this one refuses. */
  async #fail(call: 'step' | 'save', error: unknown): Promise<never> {
    if (this.ranks === null) throw error
    const { code, message } = toMorError(error)
    return wrapNativeAsync(() => this.#native.fail(call, code, message))
  }

  /**
   * Loss on a batch like those of `step`, without a teacher and without a change of any state.
   * @throws {MorError} as `step`
   */
  async evaluate(batch: readonly TrainingRow[], options: EvaluateOptions = {}): Promise<EvaluateResult> {
    const check = Checker.of(options, 'evaluate')
    check.onlyKeys(['routing', 'signal'])
    const routing = check.choice('routing', ['topk', 'threshold'], 'threshold')
    const { tokens, counts, shapes } = packTrainingRows(batch, this.model.config, 1)
    const signal = check.signal()
    const stats = await wrapNativeAsync(() => this.#native.evaluate(tokens, counts, shapes, routing, signal), signal)
    return { ...stats, tokensPerSecond: stats.tokens / stats.seconds }
  }

  /**
   * Saves everything that `resume` needs, as a checkpoint folder that `Model.load` reads too: float32 weights, optimizer
   * state, random state, step and options. They are those after the calls made before this one; written aside and renamed,
   * as `Model.save`, with the files of the model's tokenizer. Of several ranks, all save together into one folder that they share, each what it keeps; what fails on one rank
   * fails on all.
   * @throws {MorError} IO_ERROR, DISPOSED, COMMUNICATION_FAILED
   */
  async save(folder: string): Promise<void> {
    let tokenizer: TokenizerFile[]
    try {
      checkPath(folder, 'save: the folder')
      tokenizer = this.model.tokenizerFilesFor(folder)
    } catch (error) {
      return this.#fail('save', error)
    }
    await wrapNativeAsync(async () => saveTrainerCheckpoint(this.model, this.#native, this.options, folder, tokenizer))
    if (this.ranks === null || this.ranks.rank === 0) await removeOtherFiles(tokenizer, folder)
  }

  /** Gives the optimizer's memory back, not the model's; calls under way reject with DISPOSED. */
  dispose(): Promise<void> {
    this.#disposing ??= wrapNativeAsync(() => this.#native.dispose())
    return this.#disposing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }
}

/**
 * The teacher that the options ask for.
 * @throws {MorError} INVALID_ARGUMENT for one that cannot teach the model
 */
function teacherOf({ distillation }: TrainerOptions, model: Model): Model | null {
  if (distillation === undefined || distillation === null) return null
  const check = new Checker({}, 'Trainer: distillation')
  const { teacher } = distillation
  if (!(teacher instanceof Model)) {
    return check.fail(`teacher is ${show(teacher)}; give a model, such as Model.load resolves to`)
  }
  if (teacher === model) check.fail('a model cannot be its own teacher; load the teacher by itself')
  const [taught, own] = [teacher.config.vocab_size, model.config.vocab_size]
  if (taught !== own) check.fail(`the vocabulary of the teacher has ${taught} tokens and that of the model ${own}`)
  for (const key of ['device', 'dtype'] as const) {
    if (teacher[key] === model[key]) continue
    check.fail(`the teacher has ${key} "${teacher[key]}" and the model "${model[key]}"; load both with the same ${key}`)
  }
  return teacher
}

function resumedOptions(
  saved: ResolvedTrainerOptions,
  changes: Partial<TrainerOptions>,
  folder: string,
): TrainerOptions {
  const { distillation: began, ...rest } = saved
  const { distillation = began === null ? null : undefined, ...others } = withoutUndefined(changes)
  if (distillation === undefined) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `the run in ${folder} learns from a teacher: give distillation: { teacher } to go on, or distillation: null to go on without`,
    )
  }
  return { ...rest, ...others, distillation: distillation && { ...began, ...withoutUndefined(distillation) } }
}

function withoutUndefined<T extends object>(object: T): T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T
}
