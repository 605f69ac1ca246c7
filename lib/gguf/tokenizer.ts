// Makes a tokenizer.json of the vocabulary in the metadata of a GGUF file, and the files that lie beside one.
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { show } from '../check.js'
import { MorError } from '../errors.js'
import { readTokenizerFiles, type SavedTokenizer, tokenizerFileName, tokenizerFiles } from '../tokenizer/files.js'
import type { TokenizerFile } from '../tokenizer/interface.js'
import { tokenType } from './format.js'
import { splittings } from './pre_tokenizers.js'
import type { GgufFile } from './reader.js'

/** The contents of the files of a tokenizer. */
export interface GgufTokenizer {
  /** tokenizer.json */
  json: string
  /** tokenizer_config.json */
  config: Record<string, unknown>
}

export interface Token {
  id: number
  text: string
  type: number
  score: number
}

/** A tokenizer.json beside the file, which counts before the vocabulary inside it; null where there is none. */
export function tokenizerBeside(path: string): string | null {
  const beside = join(dirname(path), tokenizerFileName)
  return existsSync(beside) ? beside : null
}

/** What is saved beside weights that come from a GGUF file. Null where it has no vocabulary that can be used. */
export async function findGgufTokenizerFiles(file: GgufFile): Promise<SavedTokenizer | null> {
  const beside = tokenizerBeside(file.path)
  if (beside !== null) return readTokenizerFiles(beside, dirname(beside))
  if (!hasVocabulary(file)) return null
  return { filesFor: () => ggufTokenizerFiles(ggufTokenizer(file)) }
}

export function ggufTokenizerFiles({ json, config }: GgufTokenizer): TokenizerFile[] {
  return tokenizerFiles(json, `${JSON.stringify(config, null, 2)}\n`)
}

/**
 * The tokenizer of the file.
 * @throws {MorError} CHECKPOINT_INVALID that says what is not known of it
 */
export function ggufTokenizer(file: GgufFile): GgufTokenizer {
  const kind = file.metadata.get('tokenizer.ggml.model')
  if (kind !== 'gpt2' && kind !== 'llama')
    failFor(file, `tokenizer.ggml.model is ${show(kind)}; "gpt2" and "llama" are read`)
  const tokens = readTokens(file)
  const content = kind === 'gpt2' ? bytePairs(file, tokens) : sentencePieces(file, tokens)
  const added = tokens.filter(
    ({ type }) => type !== tokenType.normal && type !== tokenType.byte && type !== tokenType.unused,
  )
  const json = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added.map(({ id, text, type }) => ({
      id,
      content: text,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: type !== tokenType.userDefined,
    })),
    post_processor: null,
    ...content,
  }
  return { json: `${JSON.stringify(json)}\n`, config: tokenizerConfig(file, tokens, kind) }
}

/** Whether the file has a vocabulary of a kind that is read. */
export function hasVocabulary(file: GgufFile): boolean {
  return ['gpt2', 'llama'].includes(String(file.metadata.get('tokenizer.ggml.model')))
}

function readTokens(file: GgufFile): Token[] {
  const list = (key: string): unknown[] => {
    const value = file.metadata.get(`tokenizer.ggml.${key}`) ?? []
    return Array.isArray(value) ? value : failFor(file, `tokenizer.ggml.${key} is no list`)
  }
  const [texts, types, scores] = [list('tokens'), list('token_type'), list('scores')]
  if (texts.length === 0) failFor(file, 'it has no tokenizer.ggml.tokens')
  return texts.map((text, id) => ({
    id,
    text: typeof text === 'string' ? text : failFor(file, `token ${id} is ${show(text)}`),
    type: Number(types[id] ?? tokenType.normal),
    score: Number(scores[id] ?? 0),
  }))
}

const vocabularyOf = (tokens: readonly Token[]): Record<string, number> =>
  Object.fromEntries(tokens.filter(({ type }) => type !== tokenType.unused).map(({ text, id }) => [text, id]))

const model = {
  type: 'BPE',
  dropout: null,
  unk_token: null as string | null,
  continuing_subword_prefix: null,
  end_of_word_suffix: null,
  fuse_unk: false,
  byte_fallback: false,
  ignore_merges: false,
}

/** GPT-2, Llama 3, Qwen, SmolLM: every byte has a token. */
function bytePairs(file: GgufFile, tokens: readonly Token[]): object {
  const pre = file.metadata.get('tokenizer.ggml.pre') ?? 'gpt-2'
  const splitting = Object.hasOwn(splittings, String(pre)) ? splittings[String(pre)]! : null
  if (splitting === null)
    failFor(file, `tokenizer.ggml.pre is ${show(pre)}; ${Object.keys(splittings).map(show).join(', ')} are read`)
  const merges = file.metadata.get('tokenizer.ggml.merges')
  if (!Array.isArray(merges)) failFor(file, 'it has no tokenizer.ggml.merges')
  const { normalizer, pre_tokenizer, ignoreMerges } = splitting
  return {
    normalizer,
    pre_tokenizer,
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: { ...model, ignore_merges: ignoreMerges, vocab: vocabularyOf(tokens), merges },
  }
}

/** Llama 2, TinyLlama, Mistral: pieces of SentencePiece, of which the one with the higher score is made first. */
function sentencePieces(file: GgufFile, tokens: readonly Token[]): object {
  const unknown = tokens.find(({ type }) => type === tokenType.unknown)?.text ?? null
  const prepends = file.metadata.get('tokenizer.ggml.add_space_prefix') !== false
  const replace = (from: string, to: string) => ({ type: 'Replace', pattern: { String: from }, content: to })
  return {
    normalizer: {
      type: 'Sequence',
      normalizers: [...(prepends ? [{ type: 'Prepend', prepend: '▁' }] : []), replace(' ', '▁')],
    },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        replace('▁', ' '),
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prepends ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      ...model,
      unk_token: unknown,
      fuse_unk: true,
      byte_fallback: true,
      vocab: vocabularyOf(tokens),
      merges: mergesOf(tokens),
    },
  }
}

/** Every way to make a piece of two others, best pieces first. */
export function mergesOf(tokens: readonly Token[]): [string, string][] {
  const pieces = tokens.filter(({ type }) => type === tokenType.normal || type === tokenType.userDefined)
  const ids = new Map(pieces.map(({ text, id }) => [text, id]))
  const merges = pieces.flatMap(({ text, score, id }) => {
    const characters = [...text]
    return characters.slice(1).flatMap((_, i) => {
      const [left, right] = [characters.slice(0, i + 1).join(''), characters.slice(i + 1).join('')]
      const [first, second] = [ids.get(left), ids.get(right)]
      return first === undefined || second === undefined
        ? []
        : [{ pair: [left, right] as [string, string], score, id, first, second }]
    })
  })
  merges.sort((a, b) => b.score - a.score || a.id - b.id || a.first - b.first || a.second - b.second)
  return merges.map(({ pair }) => pair)
}

/** Whether texts get a begin and an end token, and which those are. */
function tokenizerConfig(file: GgufFile, tokens: readonly Token[], kind: 'gpt2' | 'llama'): Record<string, unknown> {
  const named = (key: string) => tokens[Number(file.metadata.get(`tokenizer.ggml.${key}_token_id`) ?? -1)]?.text ?? null
  const adds = (key: string, fallback: boolean) => {
    const value = file.metadata.get(`tokenizer.ggml.add_${key}_token`)
    return typeof value === 'boolean' ? value : fallback
  }
  const begin = named('bos')
  const begins = kind === 'llama' || splittings[String(file.metadata.get('tokenizer.ggml.pre'))]?.ignoreMerges === true
  const template = file.metadata.get('tokenizer.chat_template')
  return {
    bos_token: begin,
    eos_token: named('eos'),
    add_bos_token: begin !== null && adds('bos', begins),
    add_eos_token: named('eos') !== null && adds('eos', false),
    ...(typeof template === 'string' ? { chat_template: template } : {}),
  }
}

function failFor(file: GgufFile, problem: string): never {
  throw new MorError(
    'CHECKPOINT_INVALID',
    `the tokenizer in ${file.path} cannot be used: ${problem}. Put the model's tokenizer.json beside the file`,
  )
}
