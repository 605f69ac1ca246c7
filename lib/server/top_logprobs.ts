// Names the most likely tokens in the place of a generated one, since responses name tokens by their text.
import type { TokenLogprob } from '../generation.js'

const REPLACEMENT = '\uFFFD'

/** A token with the text that it adds in its place, or would have added. */
export interface PlacedToken extends TokenLogprob {
  text: string
}

/**
 * Log-probabilities by name: those of `top` in their order, then that of `chosen` if it is not among them. The name of a
 * token is its text. If that is empty, no whole character, or already the name of another token, the name is `token_id:` and
 * the id, so that no entry is lost. The chosen token always has its text for a name.
 */
export function topLogprobs(top: readonly PlacedToken[], chosen: PlacedToken): Record<string, number> {
  const names = new Set([chosen.text])
  const nameOf = ({ token, text }: PlacedToken): string => {
    const name = text === '' || text.includes(REPLACEMENT) || names.has(text) ? `token_id:${token}` : text
    names.add(name)
    return name
  }
  const entries = top.map((placed): [string, number] => {
    return [placed.token === chosen.token ? chosen.text : nameOf(placed), placed.logprob]
  })
  return Object.fromEntries([...entries, [chosen.text, chosen.logprob]])
}
