// Says how a file is read by its name, and recognises files of other kinds, so that nobody trains on their bytes by mistake.
import { extname } from 'node:path'
import { MorError } from '../errors.js'

/** The name of standard input among files. */
export const STANDARD_INPUT = '-'

/** As messages name the file. */
export function shownPath(path: string): string {
  return path === STANDARD_INPUT ? 'standard input' : path
}

export const textFormats = ['text', 'jsonl', 'parquet'] as const
export type TextFormat = (typeof textFormats)[number]

export type Compression = 'gzip' | 'zstd' | 'xz'

export interface FileKind {
  format: TextFormat
  compression: Compression | null
}

const formatEndings: Record<string, TextFormat> = {
  '.jsonl': 'jsonl',
  '.ndjson': 'jsonl',
  '.jsonlines': 'jsonl',
  '.parquet': 'parquet',
}
const compressionEndings: Record<string, Compression> = { '.gz': 'gzip', '.zst': 'zstd', '.xz': 'xz' }

const toJsonLines = 'write its text as JSON Lines, one object in each line of a .jsonl file'
const unpack = (ending: string) => `unpack it first, or let its name end in ${ending}`
const toUtf8 = 'convert it to UTF-8'

/** How files of other kinds begin (one character for each byte), what they are, and what to do with them. */
const signatures: [beginning: string, kind: string, cure: string][] = [
  ['\x1f\x8b', 'compressed with gzip', unpack('.gz')],
  ['\x28\xb5\x2f\xfd', 'compressed with zstd', unpack('.zst')],
  ['\xfd7zXZ\0', 'compressed with xz', unpack('.xz')],
  ['PK\x03\x04', 'a zip archive or an office document', 'unpack it first'],
  ['PAR1', 'a Parquet file', 'let its name end in .parquet'],
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
 * How a file is read, by its name: `corpus.jsonl.gz` holds JSON Lines that gzip compressed; standard input and files with
 * another name hold text. `format` takes the place of what the name says, compression aside.
 * Throws `INVALID_ARGUMENT` for a `.json` file: it is one value, which holds the texts in a form that nobody has named; and
 * for Parquet that is compressed as a whole or comes from standard input, since its end is read first.
 */
export function fileKind(path: string, format: TextFormat | null): FileKind {
  const ending = extname(path).toLowerCase()
  const compression = compressionEndings[ending] ?? null
  const inner = compression === null ? ending : extname(path.slice(0, -ending.length)).toLowerCase()
  if (format === null && inner === '.json') {
    throw new MorError(
      'INVALID_ARGUMENT',
      `${path} is a JSON file, and only text, JSON Lines and Parquet files can be read: ${toJsonLines} (jq -c '.[]' does that for an array), or name it .jsonl if its lines are objects already`,
    )
  }
  const kind = { format: format ?? formatEndings[inner] ?? 'text', compression }
  if (kind.format === 'parquet' && (compression !== null || path === STANDARD_INPUT)) {
    const how =
      compression === null ? 'comes from standard input: give the file' : 'is compressed as a whole: unpack it'
    throw new MorError('INVALID_ARGUMENT', `${path} is Parquet, whose end is read first, and ${how}`)
  }
  return kind
}

/** Throws `INVALID_ARGUMENT` if `bytes`, with which the text of `path` begins, are not the beginning of text in that format. */
export function checkBeginning(bytes: Buffer, path: string, format: TextFormat): void {
  const beginning = bytes.toString('latin1', 0, 64)
  const found = signatures.find(([signature]) => beginning.startsWith(signature))
  if (found !== undefined)
    throw new MorError('INVALID_ARGUMENT', `${shownPath(path)} is ${found[1]}, not UTF-8 text: ${found[2]}`)
  if (format === 'text' && beginsLikeJson.test(beginning.replace(/^\xef\xbb\xbf/, ''))) {
    throw new MorError(
      'INVALID_ARGUMENT',
      path === STANDARD_INPUT
        ? 'standard input begins like JSON, so its braces and keys would be trained on: give the format jsonl if each line is an object'
        : `${path} begins like JSON, but its name does not end in .jsonl, so its braces and keys would be trained on: name it .jsonl if each line is an object; otherwise ${toJsonLines}`,
    )
  }
}

/** Throws `INVALID_ARGUMENT` if there is a zero byte in `bytes`, which stand at `offset` of the text: no text has one. */
export function checkNoZero(bytes: Buffer, path: string, offset: number): void {
  const zero = bytes.indexOf(0)
  if (zero < 0) return
  throw new MorError(
    'INVALID_ARGUMENT',
    `${shownPath(path)}: byte ${offset + zero} is zero, so this is no UTF-8 text but binary data, or text in UTF-16: convert it to UTF-8`,
  )
}
