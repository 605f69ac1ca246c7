// A tokenizer of Hugging Face's library behind this package's interface.
import type { Tokenizer as Implementation } from '@huggingface/tokenizers'
import { checkPath, checkText, checkTexts, show } from '../check.js'
import { MorError, throwIfAborted } from '../errors.js'
import { lengthOf } from '../tokens.js'
import { readDecodeOptions, readEncodeBatchOptions, readEncodeOptions } from './call_options.js'
import { WindowDetokenizer } from './detokenizer.js'
import { EncodeThread } from './encode_thread.js'
import { tokenizerFiles, writeTokenizerFiles } from './files.js'
import type { Around, DecodeOptions, Detokenizer, EncodeBatchOptions, EncodeOptions, Tokenizer } from './interface.js'
import { makeLibraryTokenizer } from './library.js'
import type { SpecialTokens } from './special_tokens.js'
import { checkTokenId } from './token_id.js'
import { WordEncoder } from './word_encoder.js'

/** What a tokenizer is made of: plain data, of which another thread can make the same one. */
export interface HuggingFaceSource extends SpecialTokens {
  path: string
  fingerprint: string
  /** The content of `tokenizer.json`. */
  json: string
}

/** Texts of together more characters than these are encoded on another thread: on this one they would take some 10 ms. */
const SHORT_CHARACTERS = 1024

export class HuggingFaceTokenizer implements Tokenizer {
  readonly name: string
  readonly fingerprint: string
  readonly vocabSize: number
  readonly minVocabSize: number
  readonly bosTokenId: number | null
  readonly eosTokenId: number | null
  readonly #implementation: Implementation
  readonly #special: Set<number>
  readonly around: Around
  readonly filesFor: Tokenizer['filesFor']
  readonly #threads: EncodeThread[] = []
  readonly #source: HuggingFaceSource
  readonly #words: WordEncoder | null

  /**
   * @param implementation that of `source.json`
   * @param filesFor default: `source.json` alone
   * @throws {MorError} CHECKPOINT_INVALID for a special token that the vocabulary lacks
   */
  constructor(
    source: HuggingFaceSource,
    implementation: Implementation,
    filesFor: Tokenizer['filesFor'] = () => tokenizerFiles(source.json),
  ) {
    this.filesFor = filesFor
    const { path, fingerprint, bosTokenId, eosTokenId } = source
    this.name = path
    this.fingerprint = fingerprint
    this.bosTokenId = bosTokenId
    this.eosTokenId = eosTokenId
    this.#implementation = implementation
    this.#source = source
    this.#words = WordEncoder.of(JSON.parse(source.json), implementation)
    this.vocabSize = 1 + largest(implementation.get_vocab(true).values())
    const added = implementation.get_added_tokens_decoder()
    this.#special = new Set([...added.values()].filter((token) => token.special).map((token) => token.id))
    this.around = idsAround(source, implementation)
    // Ids between two tokens that no token has are listed too, under the name undefined.
    const named = [...implementation.get_vocab(true)].filter(([token]) => token !== undefined)
    const used = named.map(([, id]) => id).filter((id) => !added.has(id))
    const ends = [bosTokenId, eosTokenId].filter((id) => id !== null)
    this.minVocabSize = 1 + largest([...used, ...ends, ...this.around.before, ...this.around.after])
  }

  static async make(source: HuggingFaceSource): Promise<HuggingFaceTokenizer> {
    return new HuggingFaceTokenizer(source, await makeLibraryTokenizer(JSON.parse(source.json)))
  }

  encode(text: string, options?: EncodeOptions): Int32Array {
    checkText(text, 'encode: the text')
    const { addSpecialTokens } = readEncodeOptions(options)
    const { before, after } = this.around
    const around = (ids: number[]) => Int32Array.from(addSpecialTokens ? [...before, ...ids, ...after] : ids)
    const known = this.#words?.encode(text) ?? null
    if (known !== null) return around(known)
    const { ids, tokens } = this.#implementation.encode(text, { add_special_tokens: false })
    const unknown = (ids as (number | undefined)[]).indexOf(undefined)
    if (unknown !== -1) {
      const token = show(tokens[unknown])
      throw new MorError(
        'INVALID_ARGUMENT',
        `the tokenizer ${this.name} has no token for ${token}, and none for unknown text`,
      )
    }
    return around(ids)
  }

  async encodeBatch(texts: readonly string[], options?: EncodeBatchOptions): Promise<Int32Array[]> {
    checkTexts(texts, 'encodeBatch: texts')
    const { addSpecialTokens, threads, signal } = readEncodeBatchOptions(options)
    throwIfAborted(signal, 'encoding the text')
    const characters = texts.reduce((sum, text) => sum + text.length, 0)
    if (characters > SHORT_CHARACTERS) return this.#freest(threads).encode({ texts, addSpecialTokens }, signal)
    return texts.map((text) => this.encode(text, { addSpecialTokens }))
  }

  async save(folder: string): Promise<void> {
    checkPath(folder, 'save: the folder')
    await writeTokenizerFiles(this.filesFor(folder), folder)
  }

  /** Of the first `count` threads the one with the fewest jobs. */
  #freest(count: number): EncodeThread {
    while (this.#threads.length < count) this.#threads.push(new EncodeThread(this.#source))
    return this.#threads.slice(0, count).reduce((best, thread) => (thread.jobs < best.jobs ? thread : best))
  }

  decode(ids: ArrayLike<number>, options?: DecodeOptions): string {
    const count = lengthOf(ids, 'decode: the ids')
    const { skipSpecialTokens } = readDecodeOptions(options)
    const kept: number[] = []
    for (let i = 0; i < count; i++) {
      const id = checkTokenId(ids[i]!, i)
      if (this.#hasToken(id) && !(skipSpecialTokens && this.#special.has(id))) kept.push(id)
    }
    return this.#decodeKept(kept)
  }

  detokenizer(prompt?: ArrayLike<number>): Detokenizer {
    const leftOut = (id: number) => {
      if (this.#special.has(id)) return this.#decodeKept([id])
      return this.#hasToken(id) ? null : ''
    }
    return new WindowDetokenizer({ decode: (ids) => this.#decodeKept(ids), leftOut }, prompt)
  }

  /** False for padding: ids at or above `vocabSize`, and those that the vocabulary leaves out. */
  #hasToken(id: number): boolean {
    return this.#implementation.id_to_token(id) !== undefined
  }

  #decodeKept(ids: number[]): string {
    // The library's clean-up would remove spaces before punctuation, also those that were in the text.
    const options = { skip_special_tokens: false, clean_up_tokenization_spaces: false }
    return ids.length === 0 ? '' : this.#implementation.decode(ids, options)
  }
}

/** The largest of `ids`, or -1. There may be more of them than a call can have arguments. */
function largest(ids: Iterable<number>): number {
  let most = -1
  for (const id of ids) most = Math.max(most, id)
  return most
}

/** What the post-processor puts around a text, with the begin and end tokens that the checkpoint adds or leaves out. */
function idsAround(source: HuggingFaceSource, implementation: Implementation): Around {
  const text = '\0'
  const tokens = implementation.post_processor?.post_process([text], null, true).tokens ?? [text]
  const ids = tokens.map((token: string) => {
    const id = token === text ? null : implementation.token_to_id(token)
    if (id === undefined) {
      throw new MorError(
        'CHECKPOINT_INVALID',
        `${source.path}: the post_processor adds ${show(token)}, which is not in the vocabulary`,
      )
    }
    return id
  })
  const place = ids.indexOf(null)
  if (place === -1) {
    throw new MorError('CHECKPOINT_INVALID', `${source.path}: the post_processor leaves out the text itself`)
  }
  const [before, after] = [ids.slice(0, place), ids.slice(place + 1)] as [number[], number[]]
  const { bosTokenId, eosTokenId, addBosToken, addEosToken } = source
  if (addBosToken === true && !before.includes(bosTokenId!)) before.unshift(bosTokenId!)
  if (addEosToken === true && !after.includes(eosTokenId!)) after.push(eosTokenId!)
  return {
    before: addBosToken === false ? before.filter((id) => id !== bosTokenId) : before,
    after: addEosToken === false ? after.filter((id) => id !== eosTokenId) : after,
  }
}
