// Reads the text of files of any size in segments, without holding more than one segment in memory.
import { createHash } from 'node:crypto'
import { TextDecoder } from 'node:util'
import { MorError } from '../errors.js'
import { readBytes } from './bytes.js'
import { checkBeginning, checkNoZero, type FileKind, fileKind, shownPath, type TextFormat } from './file_kind.js'
import { parquetTexts } from './parquet.js'
import { Utf8Stream } from './utf8.js'

/** A segment of text. A document is one or more consecutive segments; the last one has `endsDocument`. */
export interface Segment {
  text: string
  endsDocument: boolean
}

/** A segment that was read from files. */
export interface PlacedSegment extends Segment {
  /** Whether the segment before is of the same document. */
  continuesDocument: boolean
  /** The place after it. */
  after: SourcePlace
}

/** A place between two segments of the files that are read, from which reading can go on. */
export interface SourcePlace {
  /** The index of the file, and how many of its segments lie before the place. */
  file: number
  segments: number
  /** SHA-256 (hex) over these segments; '' if there are none. */
  digest: string
}

export const START: SourcePlace = { file: 0, segments: 0, digest: '' }

export interface ReadOptions {
  textField: string
  /** Null: as the name of each file says. */
  format: TextFormat | null
  signal: AbortSignal | undefined
}

/** Text is cut after a line end into segments of about this many characters. */
const SEGMENT_CHARACTERS = 16 * 1024

/**
 * The documents of `files` in order, from `start` on, each segment with the place after it: a JSON Lines file (file_kind.ts) holds
 * one per line, as the string under `textField`; a Parquet file one per row, in the column `textField`; any other file is one
 * document of plain text. Blank lines and empty documents are skipped.
 * Throws `INVALID_ARGUMENT` for a file without text or of another kind, text that is not UTF-8, a line that is not such an object
 * (naming its number), and text before `start` that is other than it was; what `readBytes` throws.
 */
export async function* readSegments(
  files: readonly string[],
  options: ReadOptions,
  start = START,
): AsyncGenerator<PlacedSegment> {
  for (let file = start.file; file < files.length; file++) {
    const path = files[file]!
    const skipped = file === start.file ? start : START
    let [segments, digest] = [0, '']
    let continuesDocument = false
    for await (const segment of segmentsOf(path, options)) {
      if (segment.text === '') continue
      digest = createHash('sha256')
        .update(digest)
        .update(segment.endsDocument ? '\n' : ' ')
        .update(segment.text)
        .digest('hex')
      if (++segments > skipped.segments) yield { ...segment, continuesDocument, after: { file, segments, digest } }
      else if (segments === skipped.segments && digest !== skipped.digest) throw hasChanged(path)
      continuesDocument = !segment.endsDocument
    }
    if (segments < skipped.segments) throw hasChanged(path)
    if (segments === 0) throw new MorError('INVALID_ARGUMENT', `${shownPath(path)} holds no text`)
  }
}

function hasChanged(path: string): MorError {
  return new MorError(
    'INVALID_ARGUMENT',
    `${shownPath(path)} holds other text than when its preparation was interrupted: delete the .partial folder to start again`,
  )
}

function segmentsOf(path: string, options: ReadOptions): AsyncGenerator<Segment> {
  const kind = fileKind(path, options.format)
  switch (kind.format) {
    case 'text':
      return plainText(path, kind, options)
    case 'jsonl':
      return jsonLines(path, kind, options)
    case 'parquet':
      return parquet(path, options)
  }
}

async function* parquet(path: string, { textField, signal }: ReadOptions): AsyncGenerator<Segment> {
  for await (const text of parquetTexts(path, textField, signal)) yield* cut(text)
}

async function* jsonLines(path: string, kind: FileKind, { textField, signal }: ReadOptions): AsyncGenerator<Segment> {
  for await (const line of readJsonLines(path, kind, signal)) yield* cut(textOfLine(line, textField))
}

/** The segments of a document. */
function* cut(text: string): Generator<Segment> {
  let rest = text
  for (let end = cutPoint(rest); end < rest.length; end = cutPoint(rest)) {
    yield { text: rest.slice(0, end), endsDocument: false }
    rest = rest.slice(end)
  }
  yield { text: rest, endsDocument: true }
}

/** A line of a JSON Lines file, and its place for messages: file and line number. */
export interface JsonLine {
  value: unknown
  json: string
  where: string
}

/** The values of a JSON Lines file without its blank lines. Throws as `readSegments` for what is not JSON Lines. */
export async function* readJsonLines(
  path: string,
  kind: FileKind = { format: 'jsonl', compression: null },
  signal?: AbortSignal,
): AsyncGenerator<JsonLine> {
  let number = 0
  for await (const line of lines(path, kind, signal)) {
    number++
    const where = `${shownPath(path)}, line ${number}`
    const json = decodeUtf8(line, () => where)
    if (json.trim() !== '') yield { value: parseLine(json, where), json, where }
  }
}

function parseLine(json: string, where: string): unknown {
  try {
    return JSON.parse(json)
  } catch (error) {
    throw new MorError('INVALID_ARGUMENT', `${where} is not JSON: ${(error as Error).message}`)
  }
}

function textOfLine({ value, json, where }: JsonLine, textField: string): string {
  const text = (value as Record<string, unknown> | null)?.[textField]
  if (typeof text === 'string') return text
  throw new MorError(
    'INVALID_ARGUMENT',
    `${where} has no string under "${textField}": ${describeLine(value, json, textField)}`,
  )
}

function describeLine(value: unknown, json: string, textField: string): string {
  if (Array.isArray(value)) return 'it is an array; each line must be an object'
  if (typeof value !== 'object' || value === null) return `it is ${json.trim().slice(0, 40)}`
  if (Object.hasOwn(value, textField)) {
    const found = JSON.stringify((value as Record<string, unknown>)[textField]).slice(0, 40)
    return `it holds ${found} there; make that a text, leave the line out, or name the key that holds the text (--text-field, textField)`
  }
  const keys = Object.keys(value)
  const shown = keys.slice(0, 20).join(', ')
  return `its keys are ${shown}${keys.length > 20 ? ', …' : ''}; name the one that holds the text (--text-field, textField)`
}

async function* plainText(path: string, kind: FileKind, { signal }: ReadOptions): AsyncGenerator<Segment> {
  const decoder = new Utf8Stream((byte) => {
    throw notUtf8(`${shownPath(path)}, byte ${byte}`)
  })
  let text = ''
  for await (const chunk of textBytes(path, kind, signal)) {
    text += decoder.push(chunk)
    // One segment is held back, so that the last one can be marked as the end of the document.
    for (let cut = cutPoint(text); cut < text.length; cut = cutPoint(text)) {
      yield { text: text.slice(0, cut), endsDocument: false }
      text = text.slice(cut)
    }
  }
  decoder.end()
  yield { text, endsDocument: true }
}

/**
 * The end of a segment: after the first line end beyond the segment length, else before the last space or character within twice
 * that length.
 */
function cutPoint(text: string): number {
  if (text.length <= SEGMENT_CHARACTERS) return text.length
  // No further than that: the rest of a long document is searched for its own segments.
  const lineEnd = text.slice(SEGMENT_CHARACTERS, 2 * SEGMENT_CHARACTERS).indexOf('\n')
  if (lineEnd >= 0) return SEGMENT_CHARACTERS + lineEnd + 1
  if (text.length <= 2 * SEGMENT_CHARACTERS) return text.length
  const space = text.lastIndexOf(' ', 2 * SEGMENT_CHARACTERS)
  if (space > SEGMENT_CHARACTERS) return space
  const splitsPair = text.charCodeAt(2 * SEGMENT_CHARACTERS - 1) >> 10 === 0xd800 >> 10
  return 2 * SEGMENT_CHARACTERS - (splitsPair ? 1 : 0)
}

/** The lines of a file as bytes, without their line ends. Only "\n" ends a line: JSON strings may hold the Unicode line separators. */
async function* lines(path: string, kind: FileKind, signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
  let parts: Buffer[] = []
  for await (const chunk of textBytes(path, kind, signal)) {
    let start = 0
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      parts.push(chunk.subarray(start, end))
      yield Buffer.concat(parts)
      parts = []
      start = end + 1
    }
    if (start < chunk.length) parts.push(chunk.subarray(start))
  }
  if (parts.length > 0) yield Buffer.concat(parts)
}

async function* textBytes(
  path: string,
  { format, compression }: FileKind,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  let offset = 0
  for await (const chunk of readBytes(path, compression, signal)) {
    if (offset === 0) checkBeginning(chunk, path, format)
    checkNoZero(chunk, path, offset)
    yield chunk
    offset += chunk.length
  }
}

function decodeUtf8(bytes: Buffer, where: () => string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_ENCODING_INVALID_ENCODED_DATA') throw notUtf8(where())
    const text = `${where()}: a line of ${bytes.length} bytes is longer than a text can be; divide it`
    throw new MorError('INVALID_ARGUMENT', text, { cause: error })
  }
}

function notUtf8(where: string): MorError {
  return new MorError(
    'INVALID_ARGUMENT',
    `${where}: the text is not UTF-8; convert it, or unpack it if it is compressed`,
  )
}
