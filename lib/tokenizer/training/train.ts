// Trains a byte-level BPE tokenizer on text.
import { Checker, checkPath, checkTexts, show } from '../../check.js'
import { resolveFiles } from '../../dataset/build_options.js'
import { type TextFormat, textFormats } from '../../dataset/file_kind.js'
import { readSegments } from '../../dataset/source.js'
import { throwIfAborted, toMorError } from '../../errors.js'
import { byteCharacters, byteLevelJson } from '../byte_level_json.js'
import { tokenizerFiles, writeTokenizerFiles } from '../files.js'
import type { Tokenizer } from '../interface.js'
import { loadTokenizer } from '../load.js'
import { learnMerges } from './merges.js'
import { WordCounts } from './word_counts.js'

export interface TrainTokenizerOptions {
  /** Number of tokens, special ones included: at least 256 and these, at most 2^20. */
  vocabSize: number
  /** Tokens that no text is encoded to. The first one ends a text. Default: `<|endoftext|>`. */
  specialTokens?: readonly string[]
  /** As those of `buildDataset`. */
  textField?: string
  format?: TextFormat
  onProgress?: (progress: TrainTokenizerProgress) => void
  signal?: AbortSignal
}

export interface TrainTokenizerProgress {
  /** UTF-8 bytes that were read. */
  bytes: number
  /** Different words so far. */
  words: number
  /** Merges so far; 0 while text is read. */
  merges: number
}

/** A pair that comes only once says nothing about other texts. */
const LEAST_COUNT = 2
const MOST_TOKENS = 2 ** 20

/**
 * Trains byte-level BPE (arXiv 1508.07909) on words as GPT-2 splits them, and writes `tokenizer.json` and `tokenizer_config.json` to
 * `folder`, for `Tokenizer.load` and Hugging Face's libraries. The same text gives the same tokenizer. Too little text gives
 * fewer tokens. Memory holds the different words, 4 million at most, of which the rarest are dropped.
 * @param files as those of `buildDataset`
 * @throws {MorError} INVALID_ARGUMENT for text that `buildDataset` refuses, and options out of range; IO_ERROR; ABORTED
 */
export async function trainTokenizer(
  files: readonly string[],
  folder: string,
  options: TrainTokenizerOptions,
): Promise<Tokenizer> {
  const { vocabSize, specialTokens, textField, format, onProgress, signal } = resolveOptions(options)
  const paths = resolveFiles(files, 'trainTokenizer')
  checkPath(folder, 'trainTokenizer: the folder')
  const first = 256 + specialTokens.length
  const counts = new WordCounts()
  let bytes = 0
  for await (const { text } of readSegments(paths, { textField, format, signal })) {
    throwIfAborted(signal, 'training the tokenizer')
    counts.add(text)
    bytes += Buffer.byteLength(text)
    onProgress?.({ bytes, words: counts.words.size, merges: 0 })
  }
  const characters = byteCharacters()
  // The order of ids decides between pairs that are equally frequent: it is that of Hugging Face's trainer.
  const vocabulary = [...specialTokens, ...characters.toSorted()]
  const symbolOf = characters.map((character) => vocabulary.indexOf(character, specialTokens.length))
  const merges = await learnMerges(symbolsOf(counts.words, symbolOf), {
    symbols: first,
    merges: vocabSize - first,
    leastCount: LEAST_COUNT,
    onProgress: (done) => onProgress?.({ bytes, words: counts.words.size, merges: done }),
    signal,
  })
  const symbols = [...vocabulary]
  const pairs = merges.map(({ left, right }): [string, string] => {
    const pair: [string, string] = [symbols[left]!, symbols[right]!]
    const symbol = pair.join('')
    symbols.push(symbol)
    // A merge that gives the text of a special token has its id, as with Hugging Face's trainer: a text has one id.
    if (!specialTokens.includes(symbol)) vocabulary.push(symbol)
    return pair
  })
  const special = specialTokens.map((content, id) => ({ id, content }))
  const config = { eos_token: specialTokens[0], tokenizer_class: 'PreTrainedTokenizerFast' }
  try {
    const json = byteLevelJson({ vocabulary, merges: pairs, specialTokens: special, words: true })
    await writeTokenizerFiles(tokenizerFiles(json, `${JSON.stringify(config, null, 2)}\n`), folder)
  } catch (error) {
    throw toMorError(error)
  }
  return loadTokenizer(folder)
}

function* symbolsOf(words: Map<string, number>, symbolOf: readonly number[]) {
  for (const [word, count] of words) yield { symbols: Array.from(Buffer.from(word), (byte) => symbolOf[byte]!), count }
}

function resolveOptions(options: TrainTokenizerOptions) {
  const check = Checker.of(options, 'trainTokenizer')
  check.onlyKeys(['vocabSize', 'specialTokens', 'textField', 'format', 'onProgress', 'signal'])
  const specialTokens = readSpecialTokens(check)
  const least = 256 + specialTokens.length
  const vocabSize = check.object.vocabSize ?? check.fail('vocabSize is missing')
  if (!Number.isSafeInteger(vocabSize) || (vocabSize as number) < least || (vocabSize as number) > MOST_TOKENS) {
    check.fail(
      `vocabSize is ${show(vocabSize)}: it must be an integer from ${least}, for 256 bytes and ${specialTokens.length} special tokens, to ${MOST_TOKENS}`,
    )
  }
  return {
    vocabSize: vocabSize as number,
    specialTokens,
    textField: check.text('textField', 'text'),
    format: check.has('format') ? check.choice('format', textFormats) : null,
    onProgress: check.callback<NonNullable<TrainTokenizerOptions['onProgress']>>('onProgress'),
    signal: check.signal(),
  }
}

function readSpecialTokens(check: Checker): readonly string[] {
  if (!check.has('specialTokens')) return ['<|endoftext|>']
  const tokens = check.object.specialTokens as readonly string[]
  checkTexts(tokens, 'trainTokenizer: specialTokens')
  if (tokens.length === 0) check.fail('specialTokens is empty: the first one ends a text, as <|endoftext|> does')
  const doubled = tokens.find((token, i) => token.length < 2 || tokens.indexOf(token) < i)
  if (doubled !== undefined)
    check.fail(`special token ${JSON.stringify(doubled)} is given twice or too short: use a name such as <|endoftext|>`)
  return [...tokens]
}
