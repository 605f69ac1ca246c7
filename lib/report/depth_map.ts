// The depths of the tokens of a text, as a trained model reads it.
import type { ResolvedConfig } from '../config.js'
import { readSegments } from '../dataset/source.js'
import { throwIfAborted } from '../errors.js'
import { encodeDocument } from '../evaluation/encode.js'
import { windowsOf } from '../evaluation/perplexity.js'
import { type LoadOptions, Model } from '../model.js'
import { startOf } from '../tokenizer/start.js'
import { checkVocabulary } from '../tokenizer/vocabulary.js'
import { Tokenizer } from '../tokenizer.js'

/** Most characters of a text, in UTF-16 units. */
export const MOST_CHARACTERS = 4000

/** A token of the text, with the recursions that it ran itself. */
export interface DeepToken {
  /** '' inside a character. */
  text: string
  depth: number
}

/** Whether tokens of such a model can have different depths. */
export function hasDepths({ num_recursions, router }: ResolvedConfig): boolean {
  return num_recursions > 1 && router !== null
}

/**
 * The beginning of the first document of a file.
 * @throws {MorError} as `readSegments`
 */
export async function readBeginning(path: string, signal: AbortSignal): Promise<string> {
  let text = ''
  for await (const segment of readSegments([path], { textField: 'text', format: null, signal })) {
    text += segment.text
    if (segment.endsDocument || text.length >= MOST_CHARACTERS) break
  }
  // A character of two units is not cut in half.
  return text.slice(0, MOST_CHARACTERS).replace(/[\ud800-\udbff]$/, '')
}

/**
 * The depths of `text` in the model of a checkpoint.
 * @throws {MorError} as `Tokenizer.load`, `Model.load` and `readDepths`
 */
export async function mapDepths(
  folder: string,
  text: string,
  options: LoadOptions & { signal: AbortSignal },
): Promise<DeepToken[]> {
  const tokenizer = await Tokenizer.load(folder)
  await using model = await Model.load(folder, options)
  checkVocabulary(tokenizer, model.config.vocab_size, folder)
  return await readDepths(model, tokenizer, text, options.signal)
}

/**
 * Every token of `text`, which the model reads with causal routing behind a begin or end token. A text longer than the context is
 * read in windows, of which each begins half a context after the one before, so that a token follows at least as many others.
 * @throws {MorError} ABORTED, and as `Model.forward`
 */
export async function readDepths(
  model: Model,
  tokenizer: Tokenizer,
  text: string,
  signal: AbortSignal,
): Promise<DeepToken[]> {
  const { max_position_embeddings: context } = model.config
  const tokens = await encodeDocument(tokenizer, text, signal)
  const depths: number[] = []
  // Windows are made for predictions, so that their last token is not read: one more is added, which stands for none.
  const predicted = new Int32Array(tokens.length + 1)
  predicted.set(tokens)
  for (const window of windowsOf(predicted, context, Math.ceil(context / 2))) {
    throwIfAborted(signal, 'reading the text')
    const read = await model.forward([window.tokens.subarray(0, -1)], { positions: 'last', signal })
    for (const depth of read.depths.subarray(-window.scored)) depths.push(depth)
  }
  const first = startOf(new Int32Array(0), tokenizer)?.length ?? 0
  return withTexts(tokens.subarray(first), depths.slice(first), tokenizer)
}

function withTexts(ids: Int32Array, depths: readonly number[], tokenizer: Tokenizer): DeepToken[] {
  const pieces = tokenizer.detokenizer()
  const tokens = Array.from(ids, (id, i): DeepToken => ({ text: pieces.push(id), depth: depths[i]! }))
  const rest = pieces.flush()
  if (rest !== '') tokens.at(-1)!.text += rest
  return tokens
}
