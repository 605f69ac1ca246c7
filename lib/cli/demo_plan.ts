// Chooses the size of the demo's model and the number of its steps by the speed of the machine.
import type { ModelConfig } from '../config.js'
import { Tokenizer } from '../tokenizer.js'

/** A model of the demo and how it is trained. */
export interface DemoSize {
  config: ModelConfig
  /** Tokens of a sequence. */
  length: number
  /** Sequences of a step. */
  batchSize: number
  learningRate: number
  /** Fewer are too few for this size, and the next smaller one is taken. */
  leastSteps: number
}

export interface DemoPlan {
  size: DemoSize
  steps: number
  /** Of one step, as measured. */
  stepSeconds: number
}

/**
 * The steps are as many as take about this long. It is less than four minutes, because some steps are slower than the timed
 * ones, and the book, evaluations and the generation take time too.
 */
const TRAINING_SECONDS = 175
/** More say little: by then the model has read the book ten times. */
const MOST_TOKENS = 12_288_000

/**
 * From the largest to the smallest. The small one reaches 2.39 bits per byte after 3600 steps, 9.9 TFLOP in all, for which two
 * AVX2 cores have time. The large one takes six times as many FLOPs for a token; it is taken where there is time for 8M
 * tokens, with which it reads the book seven times.
 */
export const demoSizes: readonly DemoSize[] = [
  { config: shape(256, 704, 8), length: 256, batchSize: 16, learningRate: 3e-3, leastSteps: 2000 },
  { config: shape(128, 352, 5), length: 128, batchSize: 4, learningRate: 3e-3, leastSteps: 1 },
]

/**
 * The largest size for which there is time. @param measure seconds of one step of a size; it is asked from the largest size
 * on, until one is chosen. The last size is chosen however slow it is.
 */
export async function choosePlan(
  measure: (size: DemoSize) => Promise<number>,
  sizes: readonly DemoSize[] = demoSizes,
): Promise<DemoPlan> {
  for (const size of sizes) {
    const stepSeconds = await measure(size)
    const mostSteps = Math.floor(MOST_TOKENS / (size.batchSize * size.length))
    const steps = Math.max(1, Math.min(mostSteps, Math.floor(TRAINING_SECONDS / stepSeconds)))
    if (steps >= size.leastSteps || size === sizes.at(-1)) return { size, steps, stepSeconds }
  }
  throw new RangeError('there is no size to choose from')
}

/**
 * Shared layers that run three times, between an unshared first and last layer; a token is a byte. @param layers as many as
 * run where a token takes every recursion
 */
function shape(hidden: number, intermediate: number, layers: number): ModelConfig {
  const tokenizer = Tokenizer.byteLevel()
  return {
    vocab_size: tokenizer.vocabSize,
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_hidden_layers: layers,
    num_attention_heads: hidden / 64,
    num_key_value_heads: hidden / 64,
    max_position_embeddings: 512,
    eos_token_id: tokenizer.eosTokenId,
    num_recursions: 3,
    sharing: 'middle_cycle',
    kv_cache: 'recursion_wise',
    router: { type: 'expert_choice' },
  }
}
