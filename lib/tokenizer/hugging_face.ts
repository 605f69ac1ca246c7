// A tokenizer of Hugging Face's library behind this package's interface.
import { copyFile, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import type { Tokenizer as Implementation } from '@huggingface/tokenizers'
import { WindowDetokenizer } from './detokenizer.js'
import type { Detokenizer, Tokenizer } from './interface.js'
import { checkTokenId } from './token_id.js'

export interface HuggingFaceParts {
  path: string
  fingerprint: string
  implementation: Implementation
  bosTokenId: number | null
  eosTokenId: number | null
}

export class HuggingFaceTokenizer implements Tokenizer {
  readonly name: string
  readonly fingerprint: string
  readonly vocabSize: number
  readonly bosTokenId: number | null
  readonly eosTokenId: number | null
  readonly #implementation: Implementation
  readonly #special: Set<number>

  constructor({ path, fingerprint, implementation, bosTokenId, eosTokenId }: HuggingFaceParts) {
    this.name = path
    this.fingerprint = fingerprint
    this.bosTokenId = bosTokenId
    this.eosTokenId = eosTokenId
    this.#implementation = implementation
    let largest = -1
    for (const id of implementation.get_vocab(true).values()) largest = Math.max(largest, id)
    this.vocabSize = largest + 1
    this.#special = new Set()
    for (const [id, token] of implementation.get_added_tokens_decoder()) if (token.special) this.#special.add(id)
  }

  encode(text: string, { addSpecialTokens = true }: { addSpecialTokens?: boolean } = {}): Int32Array {
    return Int32Array.from(this.#implementation.encode(text, { add_special_tokens: addSpecialTokens }).ids)
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
