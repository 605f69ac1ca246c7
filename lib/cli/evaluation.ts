// Measures a model on held-out text, in nats per token and bits per byte.
import type { Dataset, DatasetMix } from '../dataset.js'
import type { Routing } from '../native/model.js'

/** The part of a Trainer that an evaluation uses. */
export interface Evaluator {
  evaluate(
    batch: Int32Array[],
    options: { routing: Routing; signal: AbortSignal },
  ): Promise<{ lmLoss: number; tokens: number; depthHistogram: number[] }>
}

export interface Evaluation {
  routing: Routing
  /** Mean cross-entropy, nats per token. */
  lmLoss: number
  /** lmLoss / ln 2 · tokens per byte of the split. End tokens count as tokens but have no bytes. */
  bitsPerByte: number
  tokens: number
  /** Tokens that ran 1..N recursions; the others ran none. */
  depthHistogram: number[]
  /** Of a mix: each of its datasets. */
  datasets?: (Omit<Evaluation, 'routing'> & { dataset: string })[]
}

export interface EvaluationOptions {
  batchSize: number
  maxBatches: number
  routing: Routing
  signal: AbortSignal
}

/** Evaluates up to `maxBatches` batches of `batchSize` rows, from the start of `dataset`. Throws what the trainer throws. */
export async function evaluateDataset(
  trainer: Evaluator,
  dataset: Dataset,
  { batchSize, maxBatches, routing, signal }: EvaluationOptions,
): Promise<Evaluation> {
  let nats = 0
  let tokens = 0
  let batches = 0
  const depthHistogram: number[] = []
  for await (const batch of dataset.sequential(batchSize)) {
    const stats = await trainer.evaluate(batch, { routing, signal })
    nats += stats.lmLoss * stats.tokens
    tokens += stats.tokens
    addCounts(depthHistogram, stats.depthHistogram)
    if (++batches === maxBatches) break
  }
  const lmLoss = nats / tokens
  return { routing, lmLoss, bitsPerByte: bitsPerByte(lmLoss, dataset.split), tokens, depthHistogram }
}

/**
 * Evaluates each dataset of a mix. The loss is the mean of their losses by their shares, which is that of a token drawn as in
 * training, and bitsPerByte is that of a text in which the datasets have these shares of the tokens. Tokens and depths are the sums of
 * what was evaluated. Throws what the trainer throws.
 */
export async function evaluateMix(
  trainer: Evaluator,
  { parts }: DatasetMix,
  options: EvaluationOptions,
): Promise<Evaluation> {
  const datasets: NonNullable<Evaluation['datasets']> = []
  const depthHistogram: number[] = []
  let [tokens, lmLoss, bytesPerToken] = [0, 0, 0]
  for (const { name, share, dataset } of parts) {
    const { routing: _same, ...result } = await evaluateDataset(trainer, dataset, options)
    datasets.push({ dataset: name, ...result })
    tokens += result.tokens
    lmLoss += share * result.lmLoss
    bytesPerToken += (share * dataset.split.bytes) / dataset.split.tokens
    addCounts(depthHistogram, result.depthHistogram)
  }
  const text = { tokens: 1, bytes: bytesPerToken }
  return { routing: options.routing, lmLoss, bitsPerByte: bitsPerByte(lmLoss, text), tokens, depthHistogram, datasets }
}

function addCounts(sum: number[], counts: readonly number[]): void {
  for (const [depth, count] of counts.entries()) sum[depth] = (sum[depth] ?? 0) + count
}

export function bitsPerByte(natsPerToken: number, text: { tokens: number; bytes: number }): number {
  return ((natsPerToken / Math.LN2) * text.tokens) / text.bytes
}
