// Measures a model on held-out text, in nats per token and bits per byte.
import type { Dataset } from '../dataset.js'
import type { Routing } from '../native.js'

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
  depthHistogram: number[]
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
    for (const [depth, count] of stats.depthHistogram.entries())
      depthHistogram[depth] = (depthHistogram[depth] ?? 0) + count
    if (++batches === maxBatches) break
  }
  const lmLoss = nats / tokens
  return { routing, lmLoss, bitsPerByte: bitsPerByte(lmLoss, dataset.split), tokens, depthHistogram }
}

export function bitsPerByte(natsPerToken: number, text: { tokens: number; bytes: number }): number {
  return ((natsPerToken / Math.LN2) * text.tokens) / text.bytes
}
