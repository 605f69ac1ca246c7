// The options of a Trainer: defaults (the paper's recipe, docs/model.md section 6), checks, and the addon's form of them.
import { Checker, show } from './check.js'
import { blockRecurs, type ResolvedConfig } from './config.js'
import type { DistributedOptions } from './distributed.js'
import type { Model } from './model.js'
import type { NativeParameter } from './native/model.js'
import type { NativeTrainerOptions } from './native/trainer.js'
import { holdsRouterState, type ParameterGroup, parameterOptions, resolveParameterGroups } from './parameter_groups.js'

/** Learning rate over steps, as a factor of the peak. */
export type Schedule =
  /** Linear warm-up, then constant. */
  | { type: 'constant'; warmupSteps?: number }
  /** Linear warm-up, then half a cosine down to `minimumRatio` (default 0.1) at `totalSteps`. */
  | { type: 'cosine'; totalSteps: number; warmupSteps?: number; minimumRatio?: number }
  /**
   * Linear warm-up (default 5% of `totalSteps`), constant, linear cool-down to 0 over the last `cooldownSteps` (default
   * 20%).
   */
  | { type: 'trapezoid'; totalSteps: number; warmupSteps?: number; cooldownSteps?: number }

/** Recursions of a training step, which grow over the first steps (docs/model.md section 11). */
export interface DepthSchedule {
  /** Recursions of the first step. Default 1. */
  from?: number
  /** From this step on, counted from 0, steps run all N; every number below N has as many steps. */
  steps: number
}

/**
 * The loss of a target becomes (1 − weight) · cross-entropy + weight · temperature² · KL(teacher ‖ model)
 * (docs/model.md section 11).
 */
export interface DistillationOptions {
  /**
   * The model whose predictions are learned: of the same vocabulary, device and dtype. It runs as in generation. Its memory is
   * given back when both it and the trainer are disposed, and it cannot be trained before.
   */
  teacher: Model
  /** Divides the logits of both models. Default 1. */
  temperature?: number
  /** From 0 to 1. Default 0.5. */
  weight?: number
}

/** Without the teacher, as it is saved. */
export type ResolvedDistillation = Required<Omit<DistillationOptions, 'teacher'>>

/** AdamW with decoupled weight decay on every matrix and on no norm. */
export interface TrainerOptions {
  /** Peak learning rate. */
  learningRate: number
  /** Default constant. */
  schedule?: Schedule
  /** Default [0.9, 0.95]. */
  betas?: readonly [number, number]
  /** Default 1e-8. */
  epsilon?: number
  /** Default 0.1. */
  weightDecay?: number
  /** Largest global gradient norm; 0 = no clipping. Default 1. */
  gradientClip?: number
  /** Equal parts a batch is split into, run one after another and summed: same step, less memory. Default 1. */
  gradientAccumulation?: number
  /** Tensors that are trained differently, or not at all. No tensor may belong to two groups. Default []. */
  parameterGroups?: readonly ParameterGroup[]
  /** For a model with recursions. Evaluations always run all. Default null: steps do, too. */
  depthSchedule?: DepthSchedule | null
  /**
   * Share of the steps that run fewer recursions, a number drawn at random, so that the model is good at every `maxRecursions`. For a
   * model with recursions; at least 0 and less than 1. Default 0.
   */
  depthDropout?: number
  /** Steps in which the capacities fall from 1, in place of `capacity_warmup_steps` of the model's router. Default null: its. */
  capacityWarmupSteps?: number | null
  /** Default null: the text alone is learned. */
  distillation?: DistillationOptions | null
  /** Recompute activations in the backward pass instead of keeping them: same numbers, less memory. Default false. */
  recompute?: boolean
  /**
   * The ranks that train the model together, each with rows of its own (docs/distributed.md). All of them make a trainer with the same
   * options, of models with the same weights. Default null: it trains alone.
   */
  distributed?: DistributedOptions | null
  /**
   * Of several ranks: steps between comparisons of their weights, which also precede the first step and every save. Ranks that differ
   * end with `COMMUNICATION_FAILED`. 0 = never. Default 100.
   */
  weightHashInterval?: number
}

/** Without what belongs to this process alone. */
export type ResolvedTrainerOptions = Required<
  Omit<TrainerOptions, 'depthSchedule' | 'distillation' | 'distributed'>
> & {
  depthSchedule: Required<DepthSchedule> | null
  distillation: ResolvedDistillation | null
}

const optionKeys = [
  'learningRate',
  'schedule',
  'betas',
  'epsilon',
  'weightDecay',
  'gradientClip',
  'gradientAccumulation',
  'parameterGroups',
  'depthSchedule',
  'depthDropout',
  'capacityWarmupSteps',
  'distillation',
  'recompute',
  'distributed',
  'weightHashInterval',
]

/** @throws {MorError} INVALID_ARGUMENT with the option, its value and what is allowed. */
export function resolveTrainerOptions(options: unknown): ResolvedTrainerOptions {
  const check = Checker.of(options, 'Trainer')
  check.onlyKeys(optionKeys)
  return {
    learningRate: check.float32('learningRate', { min: 0 }),
    schedule: resolveSchedule(check.object.schedule ?? { type: 'constant' }),
    betas: resolveBetas(check),
    epsilon: check.float32('epsilon', { above: 0, fallback: 1e-8 }),
    weightDecay: check.float32('weightDecay', { min: 0, fallback: 0.1 }),
    gradientClip: check.float32('gradientClip', { min: 0, fallback: 1 }),
    gradientAccumulation: check.integer('gradientAccumulation', { min: 1, fallback: 1 }),
    parameterGroups: resolveParameterGroups(check.object.parameterGroups ?? []),
    depthSchedule: check.has('depthSchedule') ? resolveDepthSchedule(check.child('depthSchedule')) : null,
    depthDropout: check.number('depthDropout', { min: 0, below: 1, fallback: 0 }),
    capacityWarmupSteps: check.has('capacityWarmupSteps') ? check.integer('capacityWarmupSteps', { min: 0 }) : null,
    distillation: check.has('distillation') ? resolveDistillation(check.child('distillation')) : null,
    recompute: check.boolean('recompute', false),
    weightHashInterval: check.integer('weightHashInterval', { min: 0, fallback: 100 }),
  }
}

/**
 * @param parameters of the model
 * @throws {MorError} INVALID_ARGUMENT for options that do not fit the model
 */
export function toNativeTrainerOptions(
  options: ResolvedTrainerOptions,
  config: ResolvedConfig,
  parameters: readonly Pick<NativeParameter, 'name' | 'trained'>[],
): Omit<NativeTrainerOptions, 'distillation' | 'distributed'> {
  const { betas, schedule, gradientAccumulation: _splitHere, parameterGroups, ...others } = options
  const { distillation: _withItsTeacher, depthSchedule, depthDropout, ...same } = others
  checkFitsConfig(options, config)
  return {
    ...same,
    beta1: betas[0],
    beta2: betas[1],
    schedule: { totalSteps: 0, cooldownSteps: 0, minimumRatio: 0, warmupSteps: 0, ...schedule },
    depthSchedule: { ...(depthSchedule ?? { from: config.num_recursions, steps: 0 }), dropout: depthDropout },
    parameters: parameterOptions(parameterGroups, options.learningRate, parameters),
    holdRouterState: holdsRouterState(parameterGroups, parameters),
  }
}

/** @throws {MorError} INVALID_ARGUMENT for options that a model of this configuration cannot follow */
export function checkFitsConfig(options: ResolvedTrainerOptions, config: ResolvedConfig): void {
  const { depthSchedule, depthDropout, capacityWarmupSteps } = options
  if (depthSchedule !== null) checkDepthSchedule(depthSchedule, config)
  if (depthDropout > 0) checkDepthVaries(new Checker({}, 'Trainer: depthDropout'), config)
  if (capacityWarmupSteps !== null) checkCapacityWarmup(config)
}

function resolveDepthSchedule(check: Checker): Required<DepthSchedule> {
  check.onlyKeys(['from', 'steps'])
  return {
    from: check.integer('from', { min: 1, fallback: 1 }),
    steps: check.integer('steps', { min: 1, max: Number.MAX_SAFE_INTEGER }),
  }
}

function resolveDistillation(check: Checker): ResolvedDistillation {
  check.onlyKeys(['teacher', 'temperature', 'weight'])
  return {
    temperature: check.float32('temperature', { above: 0, fallback: 1 }),
    weight: check.number('weight', { min: 0, max: 1, fallback: 0.5 }),
  }
}

function checkCapacityWarmup({ router }: ResolvedConfig): void {
  if (router?.type === 'expert_choice') return
  const found = router === null ? 'the model has no router' : `its router is "${router.type}"`
  new Checker({}, 'Trainer: capacityWarmupSteps').fail(
    `only an "expert_choice" router has capacities, but ${found}: leave the option out`,
  )
}

function checkDepthSchedule({ from }: Required<DepthSchedule>, config: ResolvedConfig): void {
  const check = new Checker({}, 'Trainer: depthSchedule')
  checkDepthVaries(check, config)
  const { num_recursions: recursions } = config
  if (from > recursions) check.fail(`from is ${from}, but the model has num_recursions ${recursions}`)
}

function checkDepthVaries(check: Checker, { num_recursions: recursions, sharing }: ResolvedConfig): void {
  if (recursions === 1) check.fail('the model has num_recursions 1, so its depth cannot vary: leave the option out')
  if (!blockRecurs(sharing)) {
    check.fail(`the model has sharing "${sharing}", of which every token runs all recursions: leave the option out`)
  }
}

function resolveSchedule(schedule: unknown): Schedule {
  const check = Checker.of(schedule, 'Trainer: schedule')
  const type = check.choice('type', ['constant', 'cosine', 'trapezoid'])
  if (type === 'constant') {
    check.onlyKeys(['type', 'warmupSteps'])
    return { type, warmupSteps: check.integer('warmupSteps', { min: 0, fallback: 0 }) }
  }
  const totalSteps = check.integer('totalSteps', { min: 1 })
  const warmupSteps = check.integer('warmupSteps', {
    min: 0,
    fallback: type === 'trapezoid' ? Math.round(0.05 * totalSteps) : 0,
  })
  if (type === 'cosine') {
    check.onlyKeys(['type', 'totalSteps', 'warmupSteps', 'minimumRatio'])
    const minimumRatio = check.number('minimumRatio', { min: 0, max: 1, fallback: 0.1 })
    if (warmupSteps > totalSteps) check.fail(`warmupSteps ${warmupSteps} is above totalSteps ${totalSteps}`)
    return { type, totalSteps, warmupSteps, minimumRatio }
  }
  check.onlyKeys(['type', 'totalSteps', 'warmupSteps', 'cooldownSteps'])
  const cooldownSteps = check.integer('cooldownSteps', { min: 0, fallback: Math.round(0.2 * totalSteps) })
  if (warmupSteps + cooldownSteps > totalSteps) {
    check.fail(
      `warmupSteps ${warmupSteps} and cooldownSteps ${cooldownSteps} are together above totalSteps ${totalSteps}`,
    )
  }
  return { type, totalSteps, warmupSteps, cooldownSteps }
}

function resolveBetas(check: Checker): readonly [number, number] {
  const betas = check.object.betas ?? [0.9, 0.95]
  const valid =
    Array.isArray(betas) && betas.length === 2 && betas.every((b) => typeof b === 'number' && b >= 0 && b < 1)
  if (!valid) check.fail(`betas is ${show(betas)}; it must be two numbers >= 0 and < 1`)
  return [betas[0], betas[1]]
}
