// The metadata of a GGUF file that says what a tokenizer.json says.
import { isDeepStrictEqual } from 'node:util'
import { type JsonObject, show } from '../check.js'
import { MorError } from '../errors.js'
import { tokenType } from './format.js'
import { splittings } from './pre_tokenizers.js'
import { mergesOf, type Token } from './tokenizer.js'
import { bool, float32s, int32s, string, strings, type TypedValue } from './values.js'

/** The content of a tokenizer.json, as far as it is read here. */
interface TokenizerJson {
  model?: {
    type?: string
    vocab?: Record<string, number>
    merges?: (string | [string, string])[]
    byte_fallback?: boolean
    unk_token?: string | null
  }
  pre_tokenizer?: JsonObject | null
  normalizer?: JsonObject | null
  decoder?: JsonObject | null
  added_tokens?: { id: number; content: string; special?: boolean }[]
}

/**
 * @param size ids of the model, more than any in `json`; those without a token get one that no text has
 * @throws {MorError} CHECKPOINT_INVALID for a tokenizer that GGUF cannot describe, or that is not known here
 */
export function vocabularyMetadata(json: TokenizerJson, size: number, where: string): [string, TypedValue][] {
  const { model } = json
  if ((model?.type ?? 'BPE') !== 'BPE' || model?.vocab === undefined) {
    refuse(where, `its model has the type ${show(model?.type)}`)
  }
  const merges = (model.merges ?? []).map(
    (pair) => (typeof pair === 'string' ? pair.split(' ') : pair) as [string, string],
  )
  const tokens = tokensOf(json, size)
  return model.byte_fallback === true
    ? sentencePieces(json, tokens, merges, where)
    : [
        ['tokenizer.ggml.model', string('gpt2')],
        ['tokenizer.ggml.pre', string(splittingName(json, merges.length === 0, where))],
        ...listed(tokens),
        ['tokenizer.ggml.merges', strings(merges.map((pair) => pair.join(' ')))],
      ]
}

const listed = (tokens: readonly Token[]): [string, TypedValue][] => [
  ['tokenizer.ggml.tokens', strings(tokens.map(({ text }) => text))],
  ['tokenizer.ggml.token_type', int32s(tokens.map(({ type }) => type))],
]

function tokensOf({ model, added_tokens: added = [] }: TokenizerJson, size: number): Token[] {
  const texts = new Array<string | undefined>(size)
  const types = new Map<number, number>()
  const all = [...Object.entries(model!.vocab!), ...added.map(({ content, id }) => [content, id] as const)]
  for (const [text, id] of all) texts[id] = text
  for (const { id, special } of added) types.set(id, special ? tokenType.control : tokenType.userDefined)
  return Array.from(texts, (text, id): Token => {
    if (text === undefined) return { id, text: `[PAD${id}]`, type: tokenType.unused, score: 0 }
    const isByte = model!.byte_fallback === true && /^<0x[0-9A-F]{2}>$/.test(text)
    const type =
      text === model!.unk_token ? tokenType.unknown : (types.get(id) ?? (isByte ? tokenType.byte : tokenType.normal))
    return { id, text, type, score: 0 }
  })
}

/** Pieces are scored by the rank of the merge that makes them; the file does not list the merges. */
function sentencePieces(
  json: TokenizerJson,
  tokens: Token[],
  merges: readonly [string, string][],
  where: string,
): [string, TypedValue][] {
  const isPrefixed = getsSpaceFirst(json, where)
  const ranks = new Map<string, number>()
  merges.forEach((pair, rank) => {
    const piece = pair.join('')
    if (!ranks.has(piece)) ranks.set(piece, rank)
  })
  for (const token of tokens) {
    if (token.type === tokenType.normal) token.score = -(ranks.get(token.text) ?? merges.length + token.id)
  }
  // What a reader makes of the scores must be what was there.
  if (!isDeepStrictEqual(mergesOf(tokens), merges)) refuse(where, 'its merges are not those of a SentencePiece model')
  return [
    ['tokenizer.ggml.model', string('llama')],
    ['tokenizer.ggml.pre', string('default')],
    ...listed(tokens),
    ['tokenizer.ggml.scores', float32s(tokens.map(({ score }) => score))],
    ['tokenizer.ggml.add_space_prefix', bool(isPrefixed)],
  ]
}

/** Whether a text gets a space before it. Otherwise a reader only writes its spaces as `▁`. */
function getsSpaceFirst({ normalizer, pre_tokenizer }: TokenizerJson, where: string): boolean {
  let isPrefixed = false
  for (const step of [...stepsOf(normalizer), ...stepsOf(pre_tokenizer)]) {
    const { type, prepend, prepend_scheme, add_prefix_space, pattern, content } = step
    const isOfSpaces = (pattern as JsonObject | undefined)?.String === ' '
    if (type === 'Prepend' && prepend === '▁') isPrefixed = true
    else if (type === 'Metaspace') isPrefixed ||= prepend_scheme !== 'never' && add_prefix_space !== false
    else if (!isOfSpaces || !(type === 'Split' || (type === 'Replace' && content === '▁')))
      refuse(where, `it changes texts by ${show(step)}`)
  }
  return isPrefixed
}

/** Those of a normalizer or a pre-tokenizer, one by one. */
function stepsOf(part: JsonObject | null | undefined): JsonObject[] {
  const steps = part?.normalizers ?? part?.pretokenizers
  if (Array.isArray(steps)) return steps.flatMap(stepsOf)
  return part ? [part] : []
}

/**
 * The name under which llama.cpp knows how the words of a text are found.
 * @param isOfBytes whether there are no merges, so that it does not matter where words end
 */
function splittingName(json: TokenizerJson, isOfBytes: boolean, where: string): string {
  const patterns = patternsOf(json.pre_tokenizer).join('\n')
  const named = Object.entries(splittings)
  const fitting = isOfBytes ? named : named.filter(([, each]) => patternsOf(each.pre_tokenizer).join('\n') === patterns)
  if (fitting.length === 0) refuse(where, `its pre_tokenizer is ${show(json.pre_tokenizer)}`)
  const steps = stepsOf(json.normalizer)
  const found = fitting.find(
    ([, { normalizer }]) => steps.length === 0 || isDeepStrictEqual(stepsOf(normalizer as JsonObject | null), steps),
  )
  if (found === undefined) refuse(where, `its normalizer is ${show(json.normalizer)}`)
  return found[0]
}

/** What decides where words end: expressions, and whether the byte level has its own. */
function patternsOf(part: unknown): string[] {
  const { type, pretokenizers, pattern, use_regex, add_prefix_space, individual_digits } = (part ?? {}) as JsonObject
  if (Array.isArray(pretokenizers)) return pretokenizers.flatMap(patternsOf)
  if (type === 'Split') return [String((pattern as JsonObject | undefined)?.Regex)]
  if (type === 'Digits') return [`digits ${individual_digits}`]
  if (type !== 'ByteLevel' || add_prefix_space === true) return [show(part)]
  return use_regex === false ? [] : ['byte level']
}

function refuse(where: string, problem: string): never {
  throw new MorError(
    'CHECKPOINT_INVALID',
    `${where}: the tokenizer cannot be written as GGUF: ${problem}. Known are byte-level BPE as in GPT-2, Llama 3, Qwen and SmolLM, and ` +
      'SentencePiece BPE as in Llama 2. Without tokenizer.json in the folder the file is written without a vocabulary',
  )
}
