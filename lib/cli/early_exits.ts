// Says at the end of a run that its model stops nearly every token after the first recursion, though it was trained for more.
import type { ResolvedConfig } from '../config.js'
import { activeFractions } from '../model_size.js'
import type { Evaluation } from './evaluation.js'
import type { Output } from './output.js'

/** Of the share of tokens that the capacities let run recursion 2, the part below which the router does not follow them. */
const LEAST_PART = 0.1

/**
 * Tells it where the capacities of an expert-choice router say otherwise: the router's scores lie on one side of the threshold as
 * long as its auxiliary loss had too little weight or too few steps.
 * @param evaluation the last one, on held-out text and by threshold; null: none was made, and nothing is told
 */
export function tellEarlyExits(config: ResolvedConfig, evaluation: Evaluation | null, output: Output) {
  if (config.router?.type !== 'expert_choice' || evaluation === null) return
  const [first = 0, ...later] = evaluation.depthHistogram
  const beyond = later.reduce((sum, count) => sum + count, 0)
  const share = beyond / (first + beyond)
  const capacity = activeFractions(config)[1]!
  if (!(share < LEAST_PART * capacity)) return
  const percent = (value: number) => `${(100 * value).toFixed(1)}%`
  output.event(
    { type: 'notice', beyondFirstRecursion: share, capacity },
    `by the threshold ${percent(share)} of the held-out tokens run more than one recursion, and the capacities say ${percent(capacity)}: ` +
      'train longer, with a larger auxiliary_loss_coefficient of the router, or with its selection "threshold"',
  )
}
