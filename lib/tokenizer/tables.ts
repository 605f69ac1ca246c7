// Checks the tables of a tokenizer.json: on wrong ones the library fails with an error of its own, or makes another tokenizer.
import { Checker, show } from '../check.js'

const LARGEST_ID = 2 ** 31 - 1

/**
 * @param content that of the file at `path`
 * @throws {MorError} CHECKPOINT_INVALID that names the table, and what is wrong in it
 */
export function checkTables(content: object, path: string): void {
  const check = Checker.of(content, path, 'CHECKPOINT_INVALID')
  if ('added_tokens' in content) checkAddedTokens(check)
  if (check.has('decoder')) checkDecoder(check.child('decoder'))
  const model = check.child('model')
  const { type, vocab } = model.object
  if (type === 'Unigram' || (type === undefined && Array.isArray(vocab))) checkPieces(model)
  else checkVocabulary(model)
  if (type === 'BPE' || 'merges' in model.object) checkMerges(model)
}

export interface TokenId {
  token: string
  id: number
  /** Whether it is one of `added_tokens`. */
  added: boolean
}

/**
 * Every token of a tokenizer.json with its id.
 * @param content that of the file at `path`
 * @throws {MorError} CHECKPOINT_INVALID for what is no tokenizer, and as `checkTables`
 */
export function tokenIds(content: unknown, path: string): TokenId[] {
  const check = Checker.of(content, path, 'CHECKPOINT_INVALID')
  checkTables(check.object, path)
  const { vocab } = check.child('model').object as { vocab: object }
  // Pieces of Unigram stand in the order of their ids.
  const entries: [string, number][] = Array.isArray(vocab)
    ? vocab.map(([token], id) => [token, id])
    : Object.entries(vocab)
  const { added_tokens: added = [] } = check.object as { added_tokens?: { id: number; content: string }[] }
  return [
    ...entries.map(([token, id]) => ({ token, id, added: false })),
    ...added.map(({ id, content: token }) => ({ token, id, added: true })),
  ]
}

function checkAddedTokens(check: Checker): void {
  for (const token of listOf(check, 'added_tokens')) {
    const { id, content } = (token ?? {}) as { id?: unknown; content?: unknown }
    if (isId(id) && typeof content === 'string') continue
    check.fail(`added_tokens holds ${show(token)}; each must have an integer from 0 as id and a text as content`)
  }
}

/** Its text would change with what comes after it, so that it cannot be shown as it comes. */
function checkDecoder(decoder: Checker): void {
  const { type, decoders } = decoder.object
  const kinds = [type, ...(Array.isArray(decoders) ? decoders.map((part) => part?.type) : [])]
  if (kinds.includes('CTC')) decoder.fail('type "CTC" is for speech, and no language model can be used with it')
}

function checkVocabulary(model: Checker): void {
  const tokenOf = new Map<unknown, string>()
  for (const [token, id] of Object.entries(model.child('vocab').object)) {
    if (!isId(id)) model.fail(`vocab gives ${show(token)} the id ${show(id)}; it must be an integer from 0`)
    const other = tokenOf.get(id)
    if (other !== undefined) model.fail(`vocab gives ${show(other)} and ${show(token)} the same id ${show(id)}`)
    tokenOf.set(id, token)
  }
}

function checkPieces(model: Checker): void {
  for (const piece of listOf(model, 'vocab')) {
    if (Array.isArray(piece) && typeof piece[0] === 'string' && typeof piece[1] === 'number') continue
    model.fail(`vocab holds ${show(piece)}; each must be a text and its score`)
  }
}

function checkMerges(model: Checker): void {
  const merges = listOf(model, 'merges')
  const inPairs = Array.isArray(merges[0])
  for (const merge of merges) {
    const parts: unknown = !inPairs && typeof merge === 'string' ? merge.split(' ') : merge
    const isPair = Array.isArray(parts) && parts.length === 2 && parts.every((part) => typeof part === 'string')
    if (isPair && Array.isArray(merge) === inPairs) continue
    model.fail(`merges holds ${show(merge)}; each must be two texts, all in a list or all with a space between them`)
  }
}

function listOf(check: Checker, key: string): unknown[] {
  const value = check.object[key]
  return Array.isArray(value) ? value : check.fail(`${key} is ${show(value)}; it must be a list`)
}

function isId(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= LARGEST_ID
}
