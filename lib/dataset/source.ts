// Reads text and JSONL files of any size in segments, without holding more than one segment in memory.
import { createReadStream } from 'node:fs'
import { TextDecoder } from 'node:util'
import { MorError, toMorError } from '../errors.js'
import { checkBeginning, checkNoZero, type TextKind, textKind } from './file_kind.js'

/** A segment of text. A document is one or more consecutive segments; the last one has `endsDocument`. */
export interface Segment {
  text: string
  endsDocument: boolean
}

/** Bytes read at once. The lines in them are parsed in one turn of the event loop. */
const READ_BYTES = 1 << 16

/** Text is cut after a line end into segments of about this many characters. */
const SEGMENT_CHARACTERS = 16 * 1024

/**
 * The documents of a file: a `.jsonl`, `.ndjson` or `.jsonlines` file holds one per line, as the string under `textField`; any
 * other file is one document of plain text. Blank lines and empty documents are skipped.
 * Throws `INVALID_ARGUMENT` for an empty file, a file of another kind (file_kind.ts), text that is not UTF-8, and a line that
 * is not such an object (naming its number); `IO_ERROR` for what cannot be read.
 */
export async function* readSegments(path: string, textField: string): AsyncGenerator<Segment> {
  let empty = true
  for await (const segment of textKind(path) === 'json-lines' ? jsonLines(path, textField) : plainText(path)) {
    if (segment.text === '') continue
    empty = false
    yield segment
  }
  if (empty) throw new MorError('INVALID_ARGUMENT', `${path} holds no text`)
}

/** A line of a JSON Lines file, and its place for messages: file and line number. */
export interface JsonLine {
  value: unknown
  json: string
  where: string
}

/** The values of a JSON Lines file without its blank lines. Throws as `readSegments` for what is not JSON Lines. */
export async function* readJsonLines(path: string): AsyncGenerator<JsonLine> {
  let number = 0
  for await (const line of lines(path)) {
    number++
    const where = `${path}, line ${number}`
    const json = decodeUtf8(line, () => where)
    if (json.trim() !== '') yield { value: parseLine(json, where), json, where }
  }
}

async function* jsonLines(path: string, textField: string): AsyncGenerator<Segment> {
  for await (const line of readJsonLines(path)) {
    let text = textOfLine(line, textField)
    for (let cut = cutPoint(text); cut < text.length; cut = cutPoint(text)) {
      yield { text: text.slice(0, cut), endsDocument: false }
      text = text.slice(cut)
    }
    yield { text, endsDocument: true }
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
  throw new MorError('INVALID_ARGUMENT', `${where} has no string under "${textField}": ${describeLine(value, json)}`)
}

function describeLine(value: unknown, json: string): string {
  if (Array.isArray(value)) return 'it is an array; each line must be an object'
  if (typeof value !== 'object' || value === null) return `it is ${json.trim().slice(0, 40)}`
  const keys = Object.keys(value)
  const shown = keys.slice(0, 20).join(', ')
  return `its keys are ${shown}${keys.length > 20 ? ', …' : ''}; name the one that holds the text (--text-field, textField)`
}

async function* plainText(path: string): AsyncGenerator<Segment> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let text = ''
  let offset = 0
  for await (const chunk of bytesOf(path, 'text')) {
    text += decodeWith(decoder, chunk, `${path}, near byte ${offset}`)
    offset += chunk.length
    // One segment is held back, so that the last one can be marked as the end of the document.
    for (let cut = cutPoint(text); cut < text.length; cut = cutPoint(text)) {
      yield { text: text.slice(0, cut), endsDocument: false }
      text = text.slice(cut)
    }
  }
  text += decodeWith(decoder, undefined, `${path}, at its end`)
  yield { text, endsDocument: true }
}

/** The end of a segment: after the first line end beyond the segment length, or between characters at twice that length. */
function cutPoint(text: string): number {
  if (text.length <= SEGMENT_CHARACTERS) return text.length
  const lineEnd = text.indexOf('\n', SEGMENT_CHARACTERS)
  if (lineEnd >= 0 && lineEnd < 2 * SEGMENT_CHARACTERS) return lineEnd + 1
  if (text.length <= 2 * SEGMENT_CHARACTERS) return text.length
  const splitsPair = text.charCodeAt(2 * SEGMENT_CHARACTERS - 1) >> 10 === 0xd800 >> 10
  return 2 * SEGMENT_CHARACTERS - (splitsPair ? 1 : 0)
}

/** The lines of a file as bytes, without their line ends. Only "\n" ends a line: JSON strings may hold the Unicode line separators. */
async function* lines(path: string): AsyncGenerator<Buffer> {
  let parts: Buffer[] = []
  for await (const chunk of bytesOf(path, 'json-lines')) {
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

async function* bytesOf(path: string, kind: TextKind): AsyncGenerator<Buffer> {
  let offset = 0
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES }) as AsyncIterable<Buffer>) {
      if (offset === 0) checkBeginning(chunk, path, kind)
      checkNoZero(chunk, path, offset)
      yield chunk
      offset += chunk.length
    }
  } catch (error) {
    throw toMorError(error)
  }
}

function decodeUtf8(bytes: Buffer, where: () => string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw notUtf8(where())
  }
}

function decodeWith(decoder: TextDecoder, bytes: Buffer | undefined, where: string): string {
  try {
    return decoder.decode(bytes, { stream: bytes !== undefined })
  } catch {
    throw notUtf8(where)
  }
}

function notUtf8(where: string): MorError {
  return new MorError(
    'INVALID_ARGUMENT',
    `${where}: the text is not UTF-8; convert it, or unpack it if it is compressed`,
  )
}
