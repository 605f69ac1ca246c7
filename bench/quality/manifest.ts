// The runs of the quality study: vanilla, recursive and Mixture-of-Recursions models of one effective depth, at equal
// tokens and at equal executed training FLOPs.
import { type ModelConfig, resolveConfig } from '../../lib/config.js'
import { flopsPerToken } from '../../lib/model_size.js'
import { length, type StudyRun } from '../study/study.js'

/** The fewest that say something about the spread. */
const seeds = [1, 2, 3]

/**
 * 3.9M parameters: so small that a run takes minutes on two cores, because there are many. 14 layers are 1 + 12 + 1, and 12 is a
 * multiple of 2, 3 and 4 recursions.
 */
export const vanillaConfig: ModelConfig = {
  vocab_size: 4096,
  hidden_size: 128,
  intermediate_size: 448,
  num_hidden_layers: 14,
  num_attention_heads: 2,
  num_key_value_heads: 2,
  head_dim: 64,
  max_position_embeddings: length,
}

/** Of the vanilla models: 4.1M tokens. */
const vanillaSteps = 1000

/** That of the paper (section 3). */
const learningRate = 3e-3
/** Of models that are trained on. */
export const uptrainLearningRate = 1e-3

const kvCaches = ['recursion_wise', 'shared', 'hybrid'] as const
type KvCache = (typeof kvCaches)[number]
type Budget = 'tokens' | 'flops'

/** Of runs that do not name theirs: it was the default when the study began. */
const firstMomentum = 0.9

/**
 * What closes the gap between top-k and the causal threshold; 0.001 is the default coefficient of the auxiliary loss, and 0.5 the default
 * momentum of a running threshold.
 */
const remedies = {
  topk: { selection: 'topk' },
  'topk.auxiliary-loss-0': { selection: 'topk', auxiliary_loss_coefficient: 0 },
  'topk.auxiliary-loss-0.01': { selection: 'topk', auxiliary_loss_coefficient: 0.01 },
  'topk.auxiliary-loss-0.1': { selection: 'topk', auxiliary_loss_coefficient: 0.1 },
  'topk.auxiliary-router': { selection: 'topk', auxiliary_router: true },
  'auxiliary-loss-0': { selection: 'threshold', auxiliary_loss_coefficient: 0, threshold_momentum: firstMomentum },
  'momentum-0': { selection: 'threshold', threshold_momentum: 0 },
  'momentum-0.5': { selection: 'threshold', threshold_momentum: 0.5 },
} as const

const vanilla = (seed: number) => fromNothing('vanilla', vanillaConfig, seed, vanillaSteps)

/** Selected by running thresholds, as in generation. @param budget what the run has in common with the vanilla one */
function expertChoice(n: number, kvCache: KvCache, budget: Budget, seed: number): StudyRun {
  const router = { type: 'expert_choice', selection: 'threshold', threshold_momentum: firstMomentum } as const
  return routed(`mor-${n}.${kvCache}`, { ...recursive(n, vanillaConfig), kv_cache: kvCache, router }, budget, seed)
}

function tokenChoice(n: number, budget: Budget, seed: number): StudyRun {
  return routed(`token-choice-${n}`, { ...recursive(n, vanillaConfig), router: { type: 'token_choice' } }, budget, seed)
}

function remedied(name: keyof typeof remedies, seed: number): StudyRun {
  const router = { type: 'expert_choice', ...remedies[name] } as const
  return routed(`mor-2.${name}`, { ...recursive(2, vanillaConfig), router }, 'tokens', seed)
}

/** A quarter of the steps run fewer recursions, drawn at random, so that the model is right when it is stopped early. */
function depthDropout(seed: number): StudyRun {
  const plain = expertChoice(3, 'recursion_wise', 'tokens', seed)
  return { ...plain, name: 'mor-3.depth-dropout.tokens', options: ['--depth-dropout', '0.25'] }
}

/** Tokens are selected in training as they are in generation. */
export const byThreshold = ['--selection', 'threshold']

/** Of the up-training of a model that was trained for so many steps: a third. */
export function uptrainSteps({ steps }: StudyRun): number {
  return Math.floor(steps / 3)
}

/**
 * A vanilla model, made recursive and trained on.
 * @param init of `mor convert`
 * @param router further options of the router in `mor convert`
 */
export function upTrained(
  original: StudyRun,
  n: number,
  init: string,
  router: readonly string[],
  { suffix = '', options = [], ...further }: Pick<StudyRun, 'teacher' | 'options'> & { suffix?: string } = {},
): StudyRun {
  const steps = uptrainSteps(original)
  const convert = ['--recursions', String(n), '--init', init, '--router', 'expert_choice', ...router]
  // The capacities fall from 1 in the first steps; those of a converted model would take 1000, more than there are.
  const capacityWarmup = ['--capacity-warmup-steps', String(Math.round(steps / 3))]
  return {
    ...further,
    name: `up-${n}.${init}${suffix}`,
    seed: original.seed,
    start: { run: original, convert },
    steps,
    learningRate: uptrainLearningRate,
    options: [...capacityWarmup, ...options],
  }
}

/** All KV policies of N = 4, and those of N = 2 and 3 that are not the default. */
function otherKvCaches(budget: Budget): ((seed: number) => StudyRun)[] {
  const kinds = [
    ...kvCaches.map((kvCache) => ({ kvCache, n: 4 })),
    ...kvCaches.slice(1).flatMap((kvCache) => [2, 3].map((n) => ({ kvCache, n }))),
  ]
  return kinds.map(
    ({ kvCache, n }) =>
      (seed) =>
        expertChoice(n, kvCache, budget, seed),
  )
}

/** What the claim rests on comes first, and then what fills the table. */
const kinds: ((seed: number) => StudyRun)[][] = [
  [
    vanilla,
    (seed) => expertChoice(3, 'recursion_wise', 'flops', seed),
    (seed) => expertChoice(2, 'recursion_wise', 'tokens', seed),
    (seed) => remedied('topk', seed),
  ],
  [(seed) => expertChoice(2, 'recursion_wise', 'flops', seed), (seed) => remedied('topk.auxiliary-loss-0.1', seed)],
  [
    ...[2, 3].map(
      (n) => (seed: number) => fromNothing(`recursive-${n}`, recursive(n, vanillaConfig), seed, vanillaSteps),
    ),
    (seed) => tokenChoice(2, 'tokens', seed),
    (seed) => expertChoice(3, 'recursion_wise', 'tokens', seed),
    depthDropout,
    ...(Object.keys(remedies) as (keyof typeof remedies)[])
      .filter((name) => name !== 'topk' && name !== 'topk.auxiliary-loss-0.1')
      .map((name) => (seed: number) => remedied(name, seed)),
  ],
  [...otherKvCaches('tokens'), (seed) => tokenChoice(3, 'tokens', seed)],
  [...otherKvCaches('flops'), ...[2, 3].map((n) => (seed: number) => tokenChoice(n, 'flops', seed))],
]

/** Of one seed: they were trained with the momentum that was the default then, which those of another would not have. */
const upTrainedRuns = ['stepwise', 'average', 'lower', 'upper'].map((init) =>
  upTrained(vanilla(1), 2, init, byThreshold),
)

/** In the order in which they are done. */
export const qualityRuns: StudyRun[] = [
  ...kinds.flatMap((some) => seeds.flatMap((seed) => some.map((kind) => kind(seed)))),
  ...upTrainedRuns,
]

/** The same with N recursions. */
export function recursive(n: number, config: ModelConfig): ModelConfig {
  return { ...config, num_recursions: n, sharing: 'middle_cycle' }
}

function routed(name: string, config: ModelConfig, budget: Budget, seed: number): StudyRun {
  const steps = budget === 'tokens' ? vanillaSteps : stepsOfEqualFlops(config, vanillaSteps, vanillaConfig)
  return fromNothing(`${name}.${budget}`, config, seed, steps)
}

/** Steps of a model that execute as much as `steps` of another. */
export function stepsOfEqualFlops(config: ModelConfig, steps: number, other: ModelConfig): number {
  const training = (one: ModelConfig) => flopsPerToken(resolveConfig(one), length).training
  return Math.round((steps * training(other)) / training(config))
}

/** A run that starts with random weights. */
export function fromNothing(name: string, config: ModelConfig, seed: number, steps: number): StudyRun {
  return { name, seed, start: { config }, steps, learningRate }
}
