// Chooses the completions of each prompt that the answer has.
import type { RunningChoice } from './running_choices.js'

/** Of each `perPrompt` choices, which have ended, the n whose tokens have the highest mean log-probability, best first. */
export async function bestChoices(
  choices: readonly RunningChoice[],
  perPrompt: number,
  n: number,
): Promise<readonly RunningChoice[]> {
  if (perPrompt === n) return choices
  const scored = await Promise.all(
    choices.map(async (choice) => ({ choice, score: mean((await choice.generation.result).logprobs) })),
  )
  const best: RunningChoice[] = []
  for (let first = 0; first < scored.length; first += perPrompt) {
    const ordered = scored.slice(first, first + perPrompt).sort((a, b) => b.score - a.score)
    best.push(...ordered.slice(0, n).map(({ choice }) => choice))
  }
  return best
}

/** Of no values: the lowest score. */
function mean(values: readonly number[]): number {
  if (values.length === 0) return Number.NEGATIVE_INFINITY
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
