// The runs of the quality study: vanilla, recursive and Mixture-of-Recursions models of one effective depth, at equal
// tokens and at equal executed training FLOPs.
import { type ModelConfig, resolveConfig } from '../../lib/config.js'
import { flopsPerToken } from '../../lib/model_size.js'
import { length, type StudyRun } from '../study/study.js'

/** The fewest that say something about the spread. */
export const seeds = [1, 2, 3]

/** 8.5M parameters. 14 layers are 1 + 12 + 1, and 12 is a multiple of 2, 3 and 4 recursions. */
export const vanillaConfig: ModelConfig = {
  vocab_size: 4096,
  hidden_size: 192,
  intermediate_size: 704,
  num_hidden_layers: 14,
  num_attention_heads: 3,
  num_key_value_heads: 3,
  head_dim: 64,
  max_position_embeddings: length,
}

/** Of the vanilla models: 8.2M tokens. */
export const vanillaSteps = 2000

/** That of the paper (section 3). */
export const learningRate = 3e-3

const recursions = [2, 3, 4]
const kvCaches = ['recursion_wise', 'shared', 'hybrid'] as const

export function vanilla(seed: number): StudyRun {
  return fromNothing('vanilla', vanillaConfig, seed, vanillaSteps)
}

/** @param budget what the run has in common with the vanilla one */
export function expertChoice(
  n: number,
  kvCache: (typeof kvCaches)[number],
  budget: 'tokens' | 'flops',
  seed: number,
): StudyRun {
  return routed(
    `mor-${n}.${kvCache}`,
    { ...recursive(n), kv_cache: kvCache, router: { type: 'expert_choice' } },
    budget,
    seed,
  )
}

function tokenChoice(n: number, budget: 'tokens' | 'flops', seed: number): StudyRun {
  return routed(`token-choice-${n}`, { ...recursive(n), router: { type: 'token_choice' } }, budget, seed)
}

/** In the order in which the table becomes useful: all kinds of models of one seed come first. */
export const qualityRuns: StudyRun[] = seeds.flatMap((seed) => [
  vanilla(seed),
  expertChoice(2, 'recursion_wise', 'tokens', seed),
  expertChoice(2, 'recursion_wise', 'flops', seed),
  expertChoice(3, 'recursion_wise', 'flops', seed),
  ...[2, 3].map((n) => fromNothing(`recursive-${n}`, recursive(n), seed, vanillaSteps)),
  tokenChoice(2, 'tokens', seed),
  tokenChoice(2, 'flops', seed),
  expertChoice(3, 'recursion_wise', 'tokens', seed),
  ...kvCaches.slice(1).flatMap((kvCache) => [2, 3].map((n) => expertChoice(n, kvCache, 'tokens', seed))),
  ...kvCaches.map((kvCache) => expertChoice(4, kvCache, 'tokens', seed)),
  tokenChoice(3, 'tokens', seed),
  ...kvCaches
    .flatMap((kvCache) => recursions.map((n) => ({ kvCache, n })))
    .filter(({ kvCache, n }) => kvCache !== 'recursion_wise' || n === 4)
    .map(({ kvCache, n }) => expertChoice(n, kvCache, 'flops', seed)),
  tokenChoice(3, 'flops', seed),
])

/** What closes the gap between top-k and the causal threshold; 0.001 is the default coefficient of the auxiliary loss. */
const remedies = {
  'auxiliary-loss-0': { auxiliary_loss_coefficient: 0 },
  'auxiliary-loss-0.01': { auxiliary_loss_coefficient: 0.01 },
  'auxiliary-loss-0.1': { auxiliary_loss_coefficient: 0.1 },
  'auxiliary-router': { auxiliary_router: true },
  threshold: { selection: 'threshold' },
  'threshold.auxiliary-loss-0': { selection: 'threshold', auxiliary_loss_coefficient: 0 },
} as const

/** Beside `mor-2.recursion_wise.tokens` and `token-choice-2.tokens` of the other study. */
export const causalityRuns: StudyRun[] = seeds.flatMap((seed) => [
  expertChoice(2, 'recursion_wise', 'tokens', seed),
  tokenChoice(2, 'tokens', seed),
  ...Object.entries(remedies).map(([name, remedy]) =>
    routed(`mor-2.${name}`, { ...recursive(2), router: { type: 'expert_choice', ...remedy } }, 'tokens', seed),
  ),
])

export function recursive(n: number): ModelConfig {
  return { ...vanillaConfig, num_recursions: n, sharing: 'middle_cycle' }
}

function routed(name: string, config: ModelConfig, budget: 'tokens' | 'flops', seed: number): StudyRun {
  const steps = budget === 'tokens' ? vanillaSteps : stepsOfEqualFlops(config, vanillaSteps, vanillaConfig)
  return fromNothing(`${name}.${budget}`, config, seed, steps)
}

/** Steps of a model that execute as much as `steps` of another. */
export function stepsOfEqualFlops(config: ModelConfig, steps: number, other: ModelConfig): number {
  const training = (one: ModelConfig) => flopsPerToken(resolveConfig(one), length).training
  return Math.round((steps * training(other)) / training(config))
}

function fromNothing(name: string, config: ModelConfig, seed: number, steps: number): StudyRun {
  return { name, seed, start: { config }, steps, learningRate }
}
