// Says at the end of a run that hardly any token reaches one of the recursions that its model was trained for.
import type { ResolvedConfig } from '../config.js'
import { activeFractions } from '../model_size.js'
import type { Evaluation } from './evaluation.js'
import type { Output } from './output.js'

/** Of the share of tokens that the capacities let run a recursion, the part below which the router does not follow them. */
const LEAST_PART = 0.1

/**
 * Tells it of the first such recursion, where the capacities of an expert-choice router say otherwise. The scores of a router that is
 * trained by top-k lie on one side of the threshold as long as its auxiliary loss had too little weight or too few steps; those of one
 * that is trained by threshold follow it after enough steps.
 * @param evaluation the last one, on held-out text and by threshold; null: none was made, and nothing is told
 */
export function tellEarlyExits(config: ResolvedConfig, evaluation: Evaluation | null, output: Output) {
  if (config.router?.type !== 'expert_choice' || evaluation === null) return
  const { tokens, depthHistogram } = evaluation
  const capacities = activeFractions(config)
  const shares = capacities.map((_, i) => sumOf(depthHistogram.slice(i)) / tokens)
  const missed = capacities.findIndex((capacity, i) => shares[i]! < LEAST_PART * capacity)
  if (missed < 0) return
  const recursion = missed + 1
  const [share, capacity] = [shares[missed]!, capacities[missed]!]
  const more = ', with a larger auxiliary_loss_coefficient of the router, or with its selection "threshold"'
  const percent = (value: number) => `${(100 * value).toFixed(1)}%`
  output.event(
    { type: 'notice', recursion, share, capacity },
    `by the threshold ${percent(share)} of the held-out tokens run recursion ${recursion}, and the capacities say ${percent(capacity)}: ` +
      `train longer${config.router.selection === 'topk' ? more : ''}`,
  )
}

function sumOf(counts: readonly number[]): number {
  return counts.reduce((sum, count) => sum + count, 0)
}
