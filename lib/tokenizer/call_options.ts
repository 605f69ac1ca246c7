// The options of a tokenizer's calls, checked.
import { Checker } from '../check.js'
import type { DecodeOptions, EncodeBatchOptions, EncodeOptions } from './interface.js'

/** @throws {MorError} INVALID_ARGUMENT, as the others below */
export function readEncodeOptions(options: EncodeOptions = {}): Required<EncodeOptions> {
  const check = Checker.of(options, 'encode')
  check.onlyKeys(['addSpecialTokens'])
  return { addSpecialTokens: check.boolean('addSpecialTokens', true) }
}

export function readEncodeBatchOptions(options: EncodeBatchOptions = {}) {
  const check = Checker.of(options, 'encodeBatch')
  check.onlyKeys(['addSpecialTokens', 'threads', 'signal'])
  return {
    addSpecialTokens: check.boolean('addSpecialTokens', true),
    threads: check.integer('threads', { min: 1, max: 4096, fallback: 1 }),
    signal: check.signal(),
  }
}

export function readDecodeOptions(options: DecodeOptions = {}): Required<DecodeOptions> {
  const check = Checker.of(options, 'decode')
  check.onlyKeys(['skipSpecialTokens'])
  return { skipSpecialTokens: check.boolean('skipSpecialTokens', true) }
}
