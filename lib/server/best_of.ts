// Chooses the completions of each prompt that the answer has.
import type { RunningChoice } from './running_choices.js'

/** Of each `perPrompt` choices, which have ended, the n whose tokens have the highest mean log-probability, best first. */
export function bestChoices(choices: readonly RunningChoice[], perPrompt: number, n: number): readonly RunningChoice[] {
  if (perPrompt === n) return choices
  const best: RunningChoice[] = []
  for (let first = 0; first < choices.length; first += perPrompt) {
    const ordered = choices.slice(first, first + perPrompt).sort((a, b) => score(b) - score(a))
    best.push(...ordered.slice(0, n))
  }
  return best
}

/** Of a completion without tokens: the lowest one. */
function score({ tokens, logprobs }: RunningChoice): number {
  return tokens === 0 ? -Number.MAX_VALUE : logprobs / tokens
}
