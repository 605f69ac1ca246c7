// Names the most likely tokens in the place of a generated one, since responses name tokens by their text.
import type { TokenLogprob } from '../generation.js'
import type { Tokenizer } from '../tokenizer.js'

const REPLACEMENT = '\uFFFD'

/**
 * Log-probabilities by name: those of `top` in their order, then that of `chosen` if it is not among them. The name of a
 * token is the text that it would have added, special tokens included. If that text is empty, no whole character, or already
 * the name of another token, the name is `token_id:` and the id, so that no entry is lost.
 * @param text name of the chosen token
 * @param context the last tokens before it, enough to include the character that it may complete, or else the one before
 */
export function topLogprobs(
  tokenizer: Pick<Tokenizer, 'decode'>,
  top: readonly TokenLogprob[],
  chosen: TokenLogprob,
  text: string,
  context: readonly number[],
): Record<string, number> {
  const decode = (ids: number[]) => tokenizer.decode(ids, { skipSpecialTokens: false })
  const before = decode([...context])
  const whole = before.endsWith(REPLACEMENT) ? before.slice(0, -REPLACEMENT.length) : before
  const names = new Set([text])
  const nameOf = (id: number): string => {
    const added = decode([...context, id]).slice(whole.length)
    const name = added === '' || added.includes(REPLACEMENT) || names.has(added) ? `token_id:${id}` : added
    names.add(name)
    return name
  }
  const entries = top.map(({ token, logprob }): [string, number] => {
    return [token === chosen.token ? text : nameOf(token), logprob]
  })
  return Object.fromEntries([...entries, [text, chosen.logprob]])
}
