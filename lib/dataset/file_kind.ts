// Recognises files that hold something else than text, so that nobody trains on their bytes by mistake.
import { extname } from 'node:path'
import { MorError } from '../errors.js'

export type TextKind = 'text' | 'json-lines'

const toJsonLines = 'write its text as JSON Lines, one object in each line of a .jsonl file'
const unpack = 'unpack it first'
const toUtf8 = 'convert it to UTF-8'

/** How files of other kinds begin (one character for each byte), what they are, and what to do with them. */
const signatures: [beginning: string, kind: string, cure: string][] = [
  ['\x1f\x8b', 'compressed with gzip', unpack],
  ['\x28\xb5\x2f\xfd', 'compressed with zstd', unpack],
  ['\xfd7zXZ\0', 'compressed with xz', unpack],
  ['PK\x03\x04', 'a zip archive or an office document', unpack],
  ['PAR1', 'a Parquet file', toJsonLines],
  ['ARROW1\0', 'an Arrow file', toJsonLines],
  ['SQLite format 3\0', 'an SQLite database', toJsonLines],
  ['%PDF-', 'a PDF document', 'extract its text first'],
  ['\xff\xfe\0\0', 'text in UTF-32', toUtf8],
  ['\0\0\xfe\xff', 'text in UTF-32', toUtf8],
  ['\xff\xfe', 'text in UTF-16', toUtf8],
  ['\xfe\xff', 'text in UTF-16', toUtf8],
]

/** JSON text that begins with an object, or with an array of objects. */
const beginsLikeJson = /^\s*(\[\s*)?\{\s*"/

/**
 * How a file is read, by its name. Throws `INVALID_ARGUMENT` for a `.json` file: it is one value, which holds the texts in a
 * form that nobody has named.
 */
export function textKind(path: string): TextKind {
  const ending = extname(path).toLowerCase()
  if (['.jsonl', '.ndjson', '.jsonlines'].includes(ending)) return 'json-lines'
  if (ending !== '.json') return 'text'
  throw new MorError(
    'INVALID_ARGUMENT',
    `${path} is a JSON file, and only text and JSON Lines can be trained on: ${toJsonLines} (jq -c '.[]' does that for an array), or name it .jsonl if its lines are objects already`,
  )
}

/** Throws `INVALID_ARGUMENT` if `bytes`, with which the file `path` begins, are not the beginning of a file of that kind. */
export function checkBeginning(bytes: Buffer, path: string, kind: TextKind): void {
  const beginning = bytes.toString('latin1', 0, 64)
  const found = signatures.find(([signature]) => beginning.startsWith(signature))
  if (found !== undefined) throw new MorError('INVALID_ARGUMENT', `${path} is ${found[1]}, not UTF-8 text: ${found[2]}`)
  if (kind === 'text' && beginsLikeJson.test(beginning.replace(/^\xef\xbb\xbf/, ''))) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `${path} begins like JSON, but its name does not end in .jsonl, so its braces and keys would be trained on: name it .jsonl if each line is an object; otherwise ${toJsonLines}`,
    )
  }
}

/** Throws `INVALID_ARGUMENT` if there is a zero byte in `bytes`, which stand at `offset` of the file: no text has one. */
export function checkNoZero(bytes: Buffer, path: string, offset: number): void {
  const zero = bytes.indexOf(0)
  if (zero < 0) return
  throw new MorError(
    'INVALID_ARGUMENT',
    `${path}: byte ${offset + zero} is zero, so this is no UTF-8 text but binary data, or text in UTF-16: convert it to UTF-8`,
  )
}
