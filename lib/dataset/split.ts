// Divides encoded text between the training and the validation split, and writes both.
import { setImmediate as nextTurn } from 'node:timers/promises'
import { MorError } from '../errors.js'
import type { Tokenizer } from '../tokenizer.js'
import { Block, type Part } from './block.js'
import type { EncodedSegment } from './encode.js'
import type { DatasetInfo, SplitName } from './format.js'
import { chooseHeldOut } from './held_out.js'
import { ShardWriter } from './writer.js'

export interface SplitOptions {
  tokenizer: Tokenizer
  /** Share of the tokens for validation. */
  fraction: number
  /** T of the rows of T + 1 tokens of which both splits get at least one. */
  length: number | undefined
  shardTokens: number
}

/** What a writer has done at a place where no text waits to be divided: another writer can go on from there. */
export interface SplitState {
  /** Tokens so far, and how many of them are held out. */
  seen: number
  held: number
  /** The split with an unfinished document. */
  open: SplitName | null
  splits: DatasetInfo['splits']
}

/** Text is divided in blocks of at least so many tokens, the rest at the end aside: a smaller dataset is divided as a whole. */
const BLOCK_TOKENS = 1 << 22
/** A block may hold a million short documents: after so many the event loop gets its turn, and for each part of a long one. */
const PARTS_PER_TURN = 1000
/** The validation tokens may be this share of their number more or fewer, so that documents stay whole. */
const TOLERANCE = 0.08

export class SplitWriter {
  readonly #writers: Record<SplitName, ShardWriter>
  readonly #options: SplitOptions
  readonly #row: number
  #block: Block
  /** Tokens of the blocks before, and how many of them are held out. */
  #seen: number
  #held: number
  /** Of segments that are cut: the bytes that all of their tokens give. */
  readonly #decodedBytes = new WeakMap<EncodedSegment, number>()
  #open: SplitName | null

  private constructor(folder: string, dtype: DatasetInfo['dtype'], options: SplitOptions, from: SplitState | null) {
    const writer = (name: SplitName) =>
      new ShardWriter(folder, name, dtype, options.shardTokens, from?.splits[name] ?? undefined)
    this.#writers = { train: writer('train'), validation: writer('validation') }
    this.#options = options
    this.#row = (options.length ?? 0) + 1
    this.#seen = from?.seen ?? 0
    this.#held = from?.held ?? 0
    this.#open = from?.open ?? null
    this.#block = new Block(this.#open === null)
  }

  /** @param from what an earlier writer in this folder had done; null: nothing */
  static async open(
    folder: string,
    dtype: DatasetInfo['dtype'],
    options: SplitOptions,
    from: SplitState | null,
  ): Promise<SplitWriter> {
    const writer = new SplitWriter(folder, dtype, options, from)
    const { train, validation } = writer.#writers
    const opened = await Promise.allSettled([train.goOn(), validation.goOn()])
    const failed = opened.find((one) => one.status === 'rejected')
    if (failed === undefined) return writer
    await writer.close()
    throw failed.reason
  }

  /** Whether no text waits to be divided. */
  get settled(): boolean {
    return this.#block.tokens === 0
  }

  /** Puts everything on disk. Call it only where `settled`. */
  async state(): Promise<SplitState> {
    await Promise.all([this.#writers.train.sync(), this.#writers.validation.sync()])
    return { seen: this.#seen, held: this.#held, open: this.#open, splits: this.splits }
  }

  /** What was written, complete after `close`. */
  get splits(): DatasetInfo['splits'] {
    return { train: this.#writers.train.split, validation: this.#writers.validation.split }
  }

  async push(segment: EncodedSegment): Promise<void> {
    if (this.#options.fraction === 0) {
      await this.#write('train', { segment, from: 0, to: segment.ids.length })
      return
    }
    this.#block.push(segment)
    if (this.#block.tokens >= Math.max(BLOCK_TOKENS, 4 * this.#row)) await this.#divide()
  }

  /** Divides what is left. Throws `INVALID_ARGUMENT` if all of the text is too little for two splits. */
  async finish(): Promise<void> {
    if (this.#options.fraction === 0) return
    const tokens = this.#seen + this.#block.tokens
    if (tokens < 2 * this.#row || this.#wanted(tokens) === 0) throw this.#tooFew(tokens)
    await this.#divide()
  }

  /** Called once, also after an error. */
  async close(): Promise<void> {
    await Promise.all([this.#writers.train.close(), this.#writers.validation.close()])
  }

  /** Validation tokens of `tokens` in all. */
  #wanted(tokens: number): number {
    const { fraction, length } = this.#options
    return Math.max(Math.floor(fraction * tokens), length === undefined ? 0 : this.#row)
  }

  async #divide(): Promise<void> {
    const block = this.#block
    this.#block = new Block(block.segments.at(-1)?.endsDocument ?? true)
    const wanted = this.#wanted(this.#seen + block.tokens)
    const share = {
      wanted: wanted - this.#held,
      tolerance: Math.floor(TOLERANCE * wanted),
      least: Math.max(0, this.#row - this.#held),
      most: block.tokens - Math.max(0, this.#row - (this.#seen - this.#held)),
      row: this.#row,
    }
    const ranges = share.wanted > 0 ? await chooseHeldOut(block, share, this.#options.tokenizer) : []
    let parts = 0
    for (const part of block.parts(ranges)) {
      const whole = part.to - part.from === part.segment.ids.length
      if (!whole || ++parts % PARTS_PER_TURN === 0) await nextTurn()
      await this.#write(part.inside ? 'validation' : 'train', part)
    }
    this.#seen += block.tokens
    for (const { from, to } of ranges) this.#held += to - from
  }

  async #write(name: SplitName, { segment, from, to }: Omit<Part, 'inside'>): Promise<void> {
    const { ids, endsDocument } = segment
    if (this.#open !== null && this.#open !== name) await this.#endDocument(this.#open)
    this.#open = name
    await this.#writers[name].append(ids.subarray(from, to))
    this.#writers[name].split.bytes += this.#bytesBefore(segment, to) - this.#bytesBefore(segment, from)
    if (endsDocument && to === ids.length) await this.#endDocument(name)
  }

  async #endDocument(name: SplitName): Promise<void> {
    await this.#writers[name].append(Int32Array.of(this.#options.tokenizer.eosTokenId!))
    this.#writers[name].split.documents++
    this.#open = null
  }

  /** Bytes of the text of a segment's first `count` tokens. A tokenizer that changes the text gives only their share. */
  #bytesBefore(segment: EncodedSegment, count: number): number {
    if (count === 0) return 0
    const { ids, bytes } = segment
    if (count === ids.length) return bytes
    const size = (end: number) =>
      Buffer.byteLength(this.#options.tokenizer.decode(ids.subarray(0, end), { skipSpecialTokens: false }))
    const decoded = this.#decodedBytes.get(segment) ?? size(ids.length)
    this.#decodedBytes.set(segment, decoded)
    return Math.round((bytes * size(count)) / Math.max(1, decoded))
  }

  #tooFew(tokens: number): MorError {
    const { fraction, length } = this.#options
    const longest = Math.floor(tokens / 2) - 1
    const shorter = longest < 1 ? '' : `a length of at most ${longest}, `
    const text = `${tokens} tokens of text are too few to hold out ${fraction} of them`
    return new MorError(
      'INVALID_ARGUMENT',
      length === undefined
        ? `${text}: give more text, or a larger fraction`
        : `${text} in rows of length + 1 = ${this.#row}, since training and validation need one each: ` +
            `give more text, ${shorter}or 0 as validation fraction`,
    )
  }
}
