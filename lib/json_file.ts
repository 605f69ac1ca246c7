// Reads JSON files, with or without a byte order mark, and says what a file is that is not JSON.
import { readFile } from 'node:fs/promises'
import { Checker, type JsonObject } from './check.js'
import { MorError, toMorError } from './errors.js'
import { describeFileFormat } from './file_format.js'
import { repeatedKey } from './json_keys.js'

/**
 * Reads a JSON file of a checkpoint.
 * @throws {MorError} CHECKPOINT_MISSING without the file; CHECKPOINT_INVALID if it is not JSON, or if an object holds a key
 * twice, of which JSON.parse would keep the last
 */
export async function readJsonFile(path: string): Promise<unknown> {
  const content = await readOptionalJsonFile(path)
  if (content !== undefined) return content
  throw new MorError('CHECKPOINT_MISSING', `${path} is missing: is this the folder of a checkpoint?`)
}

/** As `readJsonFile`; undefined where there is no such file. */
export async function readOptionalJsonFile(path: string): Promise<unknown> {
  const text = await readTextFile(path)
  if (text === undefined) return undefined
  const content = parseJson(text, path)
  const repeated = repeatedKey(text)
  if (repeated === null) return content
  throw new MorError('CHECKPOINT_INVALID', `${path} holds the key "${repeated}" twice in one object: leave one out`)
}

/**
 * The object in a JSON file of a checkpoint that need not be there; {} where it is not.
 * @throws {MorError} CHECKPOINT_INVALID
 */
export async function readOptionalJsonObject(path: string): Promise<JsonObject> {
  const content = await readOptionalJsonFile(path)
  return content === undefined ? {} : Checker.of(content, path, 'CHECKPOINT_INVALID').object
}

/**
 * The text of a file that should be JSON, without the byte order mark that some editors write; undefined where there is no file.
 * @throws {MorError} CHECKPOINT_INVALID for another format and for bytes that are not UTF-8; IO_ERROR
 */
export async function readTextFile(path: string): Promise<string | undefined> {
  // The format is known from the first bytes; the file may be too large to be read as a whole.
  const format = await describeFileFormat(path)
  if (format !== null) throw new MorError('CHECKPOINT_INVALID', `${path} ${format}`)
  let bytes: Uint8Array
  try {
    bytes = await readFile(path)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code!)) return undefined
    throw toMorError(error, path)
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new MorError('CHECKPOINT_INVALID', `${path} is not JSON: its bytes are not UTF-8`, { cause })
  }
}

/** A JSON text as it is read by `readFile`, without a byte order mark. */
export function withoutByteOrderMark(text: string): string {
  return text.replace(/^\ufeff/, '')
}

/** @throws {MorError} CHECKPOINT_INVALID */
export function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new MorError('CHECKPOINT_INVALID', `${path} is not JSON: ${(cause as Error).message}`, { cause })
  }
}
