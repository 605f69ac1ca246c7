// Names the most likely tokens in the place of a generated one, since responses name tokens by their text.
import type { PlacedToken } from '../generated_text.js'

const REPLACEMENT = '\uFFFD'

export interface NamedToken extends PlacedToken {
  name: string
}

/**
 * The tokens of `top`, each with its text as name. If that is empty, no whole character, or already the name of another token,
 * the name is `token_id:` and the id, so that no entry is lost. The chosen token always has its text for a name.
 */
export function nameTokens(top: readonly PlacedToken[], chosen: Omit<PlacedToken, 'logprob'>): NamedToken[] {
  const names = new Set([chosen.text])
  return top.map((placed) => {
    if (placed.token === chosen.token) return { ...placed, text: chosen.text, name: chosen.text }
    const { token, text } = placed
    const name = text === '' || text.includes(REPLACEMENT) || names.has(text) ? `token_id:${token}` : text
    names.add(name)
    return { ...placed, name }
  })
}

/** Log-probabilities by name: those of `top` in their order, then that of `chosen` if it is not among them. */
export function topLogprobs(top: readonly PlacedToken[], chosen: PlacedToken): Record<string, number> {
  const entries = nameTokens(top, chosen).map(({ name, logprob }): [string, number] => [name, logprob])
  return Object.fromEntries([...entries, [chosen.text, chosen.logprob]])
}
