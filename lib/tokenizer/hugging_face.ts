// A tokenizer of Hugging Face's library behind this package's interface.
import { copyFile, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import type { Tokenizer as Implementation } from '@huggingface/tokenizers'
import { throwIfAborted } from '../errors.js'
import { WindowDetokenizer } from './detokenizer.js'
import { EncodeThread } from './encode_thread.js'
import type { Detokenizer, EncodeBatchOptions, Tokenizer } from './interface.js'
import { checkTokenId } from './token_id.js'

/** What a tokenizer is made of: plain data, of which another thread can make the same one. */
export interface HuggingFaceSource {
  path: string
  fingerprint: string
  /** The content of `tokenizer.json`. */
  json: string
  bosTokenId: number | null
  eosTokenId: number | null
}

/** Texts of together more characters than these are encoded on another thread: on this one they would take some 10 ms. */
const SHORT_CHARACTERS = 1024

/** The library's tokenizer for the object in a `tokenizer.json`; throws what the library throws. */
export async function implementationOf(json: object): Promise<Implementation> {
  const { Tokenizer } = await import('@huggingface/tokenizers')
  return new Tokenizer(json, {})
}

export class HuggingFaceTokenizer implements Tokenizer {
  readonly name: string
  readonly fingerprint: string
  readonly vocabSize: number
  readonly bosTokenId: number | null
  readonly eosTokenId: number | null
  readonly #implementation: Implementation
  readonly #special: Set<number>
  readonly #thread: EncodeThread

  /** @param implementation that of `source.json` */
  constructor(source: HuggingFaceSource, implementation: Implementation) {
    this.name = source.path
    this.fingerprint = source.fingerprint
    this.bosTokenId = source.bosTokenId
    this.eosTokenId = source.eosTokenId
    this.#implementation = implementation
    this.#thread = new EncodeThread(source)
    let largest = -1
    for (const id of implementation.get_vocab(true).values()) largest = Math.max(largest, id)
    this.vocabSize = largest + 1
    this.#special = new Set()
    for (const [id, token] of implementation.get_added_tokens_decoder()) if (token.special) this.#special.add(id)
  }

  static async make(source: HuggingFaceSource): Promise<HuggingFaceTokenizer> {
    return new HuggingFaceTokenizer(source, await implementationOf(JSON.parse(source.json)))
  }

  encode(text: string, { addSpecialTokens = true }: { addSpecialTokens?: boolean } = {}): Int32Array {
    return Int32Array.from(this.#implementation.encode(text, { add_special_tokens: addSpecialTokens }).ids)
  }

  async encodeBatch(
    texts: readonly string[],
    { addSpecialTokens = true, signal }: EncodeBatchOptions = {},
  ): Promise<Int32Array[]> {
    throwIfAborted(signal, 'encoding the text')
    const characters = texts.reduce((sum, text) => sum + text.length, 0)
    if (characters > SHORT_CHARACTERS) return this.#thread.encode({ texts, addSpecialTokens }, signal)
    return texts.map((text) => this.encode(text, { addSpecialTokens }))
  }

  decode(ids: ArrayLike<number>, { skipSpecialTokens = true }: { skipSpecialTokens?: boolean } = {}): string {
    const kept: number[] = []
    for (let i = 0; i < ids.length; i++) {
      const id = checkTokenId(ids[i]!, i)
      if (id < this.vocabSize && !(skipSpecialTokens && this.#special.has(id))) kept.push(id)
    }
    return this.#decodeKept(kept)
  }

  detokenizer(prompt?: ArrayLike<number>): Detokenizer {
    const leftOut = (id: number) => {
      if (this.#special.has(id)) return this.#decodeKept([id])
      return id < this.vocabSize ? null : ''
    }
    return new WindowDetokenizer({ decode: (ids) => this.#decodeKept(ids), leftOut }, prompt)
  }

  async save(folder: string): Promise<void> {
    for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
      const from = file === 'tokenizer.json' ? this.name : join(dirname(this.name), file)
      const to = join(folder, file)
      if (resolve(from) === resolve(to)) continue
      if (file === 'tokenizer.json' || (await stat(from).catch(() => null))) await copyFile(from, to)
    }
  }

  #decodeKept(ids: number[]): string {
    // The library's clean-up would remove spaces before punctuation, also those that were in the text.
    const options = { skip_special_tokens: false, clean_up_tokenization_spaces: false }
    return ids.length === 0 ? '' : this.#implementation.decode(ids, options)
  }
}
