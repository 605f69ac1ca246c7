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
/** Of an up-training: a third. */
const uptrainSteps = Math.floor(vanillaSteps / 3)

/** That of the paper (section 3). */
export const learningRate = 3e-3
const uptrainLearningRate = 1e-3

const kvCaches = ['recursion_wise', 'shared', 'hybrid'] as const
type KvCache = (typeof kvCaches)[number]
type Budget = 'tokens' | 'flops'

/** What closes the gap between top-k and the causal threshold; 0.001 is the default coefficient of the auxiliary loss. */
const remedies = {
  topk: { selection: 'topk' },
  'topk.auxiliary-loss-0': { selection: 'topk', auxiliary_loss_coefficient: 0 },
  'topk.auxiliary-loss-0.01': { selection: 'topk', auxiliary_loss_coefficient: 0.01 },
  'topk.auxiliary-loss-0.1': { selection: 'topk', auxiliary_loss_coefficient: 0.1 },
  'topk.auxiliary-router': { selection: 'topk', auxiliary_router: true },
  'auxiliary-loss-0': { selection: 'threshold', auxiliary_loss_coefficient: 0 },
} as const

const vanilla = (seed: number) => fromNothing('vanilla', vanillaConfig, seed, vanillaSteps)

/** Selected by running thresholds, as in generation. @param budget what the run has in common with the vanilla one */
function expertChoice(n: number, kvCache: KvCache, budget: Budget, seed: number): StudyRun {
  const router = { type: 'expert_choice', selection: 'threshold' } as const
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

/** The vanilla model of that seed, made recursive. */
function upTrained(init: string, seed: number): StudyRun {
  const convert = ['--recursions', '2', '--init', init, '--router', 'expert_choice', '--selection', 'threshold']
  return {
    name: `up-2.${init}`,
    seed,
    start: { run: vanilla(seed), convert },
    steps: uptrainSteps,
    learningRate: uptrainLearningRate,
    options: ['--capacity-warmup-steps', String(Math.round(uptrainSteps / 3))],
  }
}

/** What the claim rests on comes first, and then what fills the table. */
const kinds: ((seed: number) => StudyRun)[][] = [
  [
    vanilla,
    (seed) => expertChoice(3, 'recursion_wise', 'flops', seed),
    (seed) => expertChoice(2, 'recursion_wise', 'tokens', seed),
    (seed) => remedied('topk', seed),
  ],
  [
    (seed) => expertChoice(2, 'recursion_wise', 'flops', seed),
    (seed) => remedied('topk.auxiliary-loss-0.1', seed),
    ...['stepwise', 'average', 'lower', 'upper'].map((init) => (seed: number) => upTrained(init, seed)),
  ],
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
  [
    ...kvCaches.map((kvCache) => (seed: number) => expertChoice(4, kvCache, 'tokens', seed)),
    ...kvCaches
      .slice(1)
      .flatMap((kvCache) => [2, 3].map((n) => (seed: number) => expertChoice(n, kvCache, 'tokens', seed))),
    (seed) => tokenChoice(3, 'tokens', seed),
  ],
  [
    ...kvCaches.map((kvCache) => (seed: number) => expertChoice(4, kvCache, 'flops', seed)),
    ...kvCaches
      .slice(1)
      .flatMap((kvCache) => [2, 3].map((n) => (seed: number) => expertChoice(n, kvCache, 'flops', seed))),
    ...[2, 3].map((n) => (seed: number) => tokenChoice(n, 'flops', seed)),
  ],
]

/** In the order in which they are done. */
export const qualityRuns: StudyRun[] = kinds.flatMap((some) => seeds.flatMap((seed) => some.map((kind) => kind(seed))))

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
