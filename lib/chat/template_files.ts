// Finds the chat template in the files of a checkpoint, and the special tokens that it may name.
import { readFile, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type JsonObject, show } from '../check.js'
import { MorError, toMorError } from '../errors.js'
import { isGguf, readGguf } from '../gguf/reader.js'
import { ggufTokenizer, tokenizerBeside } from '../gguf/tokenizer.js'
import { readOptionalJsonObject } from '../json_file.js'
import { finishSave } from '../unfinished_save.js'

export interface TemplateSource {
  source: string
  /** For messages. */
  where: string
  /** By name, such as `bos_token`. */
  specialTokens: Record<string, string>
}

const templateFile = 'chat_template.jinja'
const configFile = 'tokenizer_config.json'
const specialTokensFile = 'special_tokens_map.json'

/**
 * The template in a folder, null if there is none; or that of the file at `path`.
 * @param checkpoint whose special tokens it has; default: those beside it
 */
export async function findTemplate(path: string, checkpoint?: string): Promise<TemplateSource | null> {
  const found = await findSource(path)
  if (found === null) return null
  const specialTokens = await (checkpoint === undefined ? found.specialTokens() : specialTokensIn(checkpoint))
  return { ...found, specialTokens }
}

/** A template, and how the special tokens beside it are found. */
type Found = Omit<TemplateSource, 'specialTokens'> & { specialTokens(): Promise<Record<string, string>> }

/** Those of a folder, or of the folder or GGUF file that the file at `path` is in or is. */
async function specialTokensIn(path: string): Promise<Record<string, string>> {
  if (await isGguf(path)) {
    const beside = tokenizerBeside(path)
    return beside === null
      ? specialTokensOf(ggufTokenizer(await readGguf(path)).config)
      : specialTokensIn(dirname(beside))
  }
  const kind = await stat(path).catch(() => null)
  const folder = kind?.isDirectory() ? path : dirname(path)
  return specialTokensBeside(folder, await readOptionalJsonObject(join(folder, configFile)))
}

/** @param config that of the folder's tokenizer, which counts before the map */
async function specialTokensBeside(folder: string, config: JsonObject): Promise<Record<string, string>> {
  const map = await readOptionalJsonObject(join(folder, specialTokensFile))
  return { ...specialTokensOf(map), ...specialTokensOf(config) }
}

async function findSource(path: string): Promise<Found | null> {
  if (await isGguf(path)) return findInGguf(path)
  const kind = await stat(path).catch(() => null)
  if (kind === null) throw new MorError('CHECKPOINT_MISSING', `there is no file or folder at ${path}`)
  if (kind.isDirectory()) await finishSave(path)
  const folder = kind.isDirectory() ? path : dirname(path)
  const config = await readOptionalJsonObject(join(folder, configFile))
  const specialTokens = () => specialTokensBeside(folder, config)
  const file = kind.isDirectory() ? join(folder, templateFile) : path
  const source = await readText(file)
  if (source !== null) return { source, where: file, specialTokens }
  const named = config.chat_template ?? null
  if (named === null) return null
  const where = join(folder, configFile)
  return { source: defaultOf(named, where), where, specialTokens }
}

/** What lies beside the file with a tokenizer.json counts before what is in it. */
async function findInGguf(path: string): Promise<Found | null> {
  const beside = tokenizerBeside(path)
  const found = beside === null ? null : await findSource(dirname(beside))
  if (found !== null) return found
  const file = await readGguf(path)
  const source = file.metadata.get('tokenizer.chat_template')
  if (typeof source !== 'string') return null
  return { source, where: path, specialTokens: async () => specialTokensOf(ggufTokenizer(file).config) }
}

/** A template, or a list of named ones. */
function defaultOf(value: unknown, where: string): string {
  if (typeof value === 'string') return value
  const list = Array.isArray(value) ? (value as (JsonObject | null)[]) : []
  const found = list.find((item) => item?.name === 'default')?.template
  if (typeof found === 'string') return found
  const names = list.map((item) => show(item?.name)).join(', ')
  throw new MorError(
    'CHECKPOINT_INVALID',
    list.length === 0
      ? `${where}: chat_template is ${show(value)}; it must be a text or a list of named templates`
      : `${where}: chat_template has the templates ${names}; one must have the name "default"`,
  )
}

/** A special token is a text, or an object with `content`. */
function specialTokensOf(config: JsonObject): Record<string, string> {
  const tokens: Record<string, string> = {}
  for (const [key, value] of Object.entries(config)) {
    if (!/^[a-z]+_token$/.test(key)) continue
    const text = typeof value === 'object' && value !== null ? (value as JsonObject).content : value
    if (typeof text === 'string') tokens[key] = text
  }
  return tokens
}

/** Null where there is no such file. */
async function readText(path: string): Promise<string | null> {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    if (error instanceof TypeError) throw new MorError('CHECKPOINT_INVALID', `${path} is not a text in UTF-8`)
    throw toMorError(error, path)
  }
}
