// The tokens of contexts and continuations.
import { MorError } from '../errors.js'
import { startOf } from '../tokenizer/start.js'
import type { Tokenizer } from '../tokenizer.js'
import type { Prompted } from './examples.js'
import { atPlace } from './place.js'

/** A sequence, of which the tokens from index `from` on are to be scored. */
export interface ScoredTokens {
  tokens: Int32Array
  from: number
}

/**
 * The tokens of the context followed by each continuation. Both are encoded as one text, behind what the tokenizer puts before a prompt,
 * but without what it puts after one: nothing ends where a continuation follows. The continuation's tokens are those beyond as many
 * as the context has alone. White space at the end of the context
 * counts to the continuation, as tokenizers put it before a word.
 * @throws {MorError} INVALID_ARGUMENT naming file and line for a continuation without tokens; as Tokenizer.encodeBatch
 */
export async function encodeExample(
  tokenizer: Tokenizer,
  example: Prompted,
  signal: AbortSignal | undefined,
): Promise<ScoredTokens[]> {
  const context = example.context.trimEnd()
  const space = example.context.slice(context.length)
  const texts = [context, ...example.continuations.map((continuation) => `${context}${space}${continuation}`)]
  const encode = () => tokenizer.encodeBatch(texts, { addSpecialTokens: false, ...(signal && { signal }) })
  const encoded = await atPlace(example.where, encode)
  const [alone, ...whole] = encoded.map((ids) => Int32Array.from([...tokenizer.around.before, ...ids]))
  const start = startOf(alone!, tokenizer)
  if (start === null) {
    const text = `${example.where}: the context is empty, and the tokenizer has no begin or end token to start from`
    throw new MorError('INVALID_ARGUMENT', text)
  }
  return whole.map((ids, i) => {
    const tokens = alone!.length > 0 ? ids : Int32Array.from([...start, ...ids])
    if (tokens.length > start.length) return { tokens, from: start.length }
    const text = `${JSON.stringify(example.continuations[i])} adds no token to the context, with whose end the tokenizer joins it`
    const advice = 'begin it with a space, give the task a delimiter, or leave the line out'
    throw new MorError('INVALID_ARGUMENT', `${example.where}: ${text}: ${advice}`)
  })
}

/** The tokens of a text behind a begin or end token, where the tokenizer has one: then the first token of the text is scored too. */
export async function encodeDocument(
  tokenizer: Tokenizer,
  text: string,
  signal: AbortSignal | undefined,
): Promise<Int32Array> {
  const [plain] = await tokenizer.encodeBatch([text], { addSpecialTokens: false, ...(signal && { signal }) })
  const start = startOf(new Int32Array(0), tokenizer)
  if (start === null) return plain!
  const tokens = new Int32Array(plain!.length + 1)
  tokens.set(start)
  tokens.set(plain!, 1)
  return tokens
}
