// A model's weights between a checkpoint folder and the addon: which tensor lies where, what is missing or too many.
import { type JsonObject, show } from './check.js'
import { jsonFile, tokenizerFilesBeside, weightsFile } from './checkpoint_files.js'
import type { ResolvedConfig } from './config.js'
import { configFileContent, configFileName } from './config_file.js'
import { MorError, throwIfAborted, wrapNativeAsync } from './errors.js'
import { generationConfigFileName } from './generation_config.js'
import type { NativeReadFile, NativeSavedFile, SafetensorsFloat } from './native/files.js'
import type { DType, NativeModel } from './native/model.js'
import { buildSafetensorsHeader, type SafetensorsFile, type TensorEntry } from './safetensors.js'
import { explainByConfig, type TensorProblems } from './tensor_keys.js'
import { checkTiedWeights, outputProjectionName } from './tied_weights.js'
import { removeOtherFiles } from './tokenizer/files.js'
import type { TokenizerFile } from './tokenizer/interface.js'

/** What is saved of a model. */
export interface SavedModel {
  readonly native: NativeModel
  readonly config: ResolvedConfig
  readonly dtype: DType
  /** The content of generation_config.json, beside begin and end tokens. */
  readonly generation: JsonObject
  /** Those of its tokenizer. */
  tokenizerFilesFor(folder: string): TokenizerFile[]
}

/** A tensor that must be found, and the name under which the addon wants it. */
export interface ExpectedTensor {
  name: string
  shape: readonly number[]
  nativeName?: string
}

/**
 * Reads all weights of `folder`, whose headers are `files`, into `model`, file by file.
 * @throws {MorError} CHECKPOINT_INVALID, IO_ERROR, or ABORTED between files or as the addon allows.
 */
export async function loadWeights(
  model: NativeModel,
  config: ResolvedConfig,
  files: readonly SafetensorsFile[],
  folder: string,
  signal?: AbortSignal,
): Promise<void> {
  const reads = await locateWeights(model.parameters(), config, files, folder, signal)
  for (const read of reads) {
    throwIfAborted(signal, `loading ${folder}`)
    await wrapNativeAsync(() => model.read([read], signal))
  }
  throwIfAborted(signal, `loading ${folder}`)
}

/**
 * Where each of a model's tensors lies, grouped by file.
 * @throws {MorError} CHECKPOINT_INVALID as `locateTensors`, and for an output projection that should be the embedding; IO_ERROR,
 * ABORTED
 */
export async function locateWeights(
  parameters: readonly ExpectedTensor[],
  config: ResolvedConfig,
  files: readonly SafetensorsFile[],
  where: string,
  signal?: AbortSignal,
): Promise<NativeReadFile[]> {
  const reads = locateTensors(parameters, files, where, {
    ignored: (name) => isDerived(name, config),
    // Weights that lie in the checkpoint itself are those of a GGUF file, whose metadata describes them.
    explain: (problems) => explainByConfig(problems, config, files[0]?.path === where ? 'metadata' : 'config.json'),
  })
  if (config.tie_word_embeddings) await checkTiedWeights(files, where, signal)
  return reads
}

/** Writes the configuration, the tokenizer and model.safetensors into `folder`, all or none. */
export async function saveWeights(model: SavedModel, folder: string): Promise<void> {
  const tensors = model.native.parameters()
  const tokenizer = model.tokenizerFilesFor(folder)
  await model.native.save(folder, [
    ...configFiles(model, model.dtype),
    ...tokenizerFilesBeside(tokenizer),
    weightsFile([buildSafetensorsHeader(tensors)], tensors),
  ])
  await removeOtherFiles(tokenizer, folder)
}

/** config.json and generation_config.json. `dtype` is that of the weights beside them. */
export function configFiles(
  { config, generation }: Pick<SavedModel, 'config' | 'generation'>,
  dtype: DType | 'float16',
): NativeSavedFile[] {
  const { bos_token_id, eos_token_id } = config
  return [
    jsonFile(configFileName, configFileContent(config, dtype)),
    jsonFile(generationConfigFileName, { ...generation, bos_token_id, eos_token_id }),
  ]
}

export interface LocateOptions {
  /** Tells tensors that may be there and are not read. Default: none. */
  ignored?: (name: string) => boolean
  /** What to say of the tensors that do not fit, at the end of the message. */
  explain?: (problems: TensorProblems) => string
}

/**
 * Where each expected tensor lies, grouped by file.
 * @throws {MorError} CHECKPOINT_INVALID that lists what is missing, unexpected, of another shape or of a dtype that
 * cannot be read.
 */
export function locateTensors(
  expected: readonly ExpectedTensor[],
  files: readonly SafetensorsFile[],
  where: string,
  { ignored = () => false, explain }: LocateOptions = {},
): NativeReadFile[] {
  const wanted = new Map(expected.map((tensor) => [tensor.name, tensor]))
  const found = new Set<string>()
  const unexpected: string[] = []
  const misshapen: string[] = []
  const unfit: string[] = []
  const reads: NativeReadFile[] = []
  for (const file of files) {
    const tensors: NativeReadFile['tensors'] = []
    for (const entry of file.tensors) {
      const tensor = wanted.get(entry.name)
      if (tensor === undefined) {
        if (!ignored(entry.name)) unexpected.push(entry.name)
        continue
      }
      if (found.has(entry.name)) misshapen.push(`"${entry.name}" is in more than one file`)
      found.add(entry.name)
      const problem = describeMismatch(entry, tensor)
      if (problem !== null) {
        misshapen.push(problem)
        unfit.push(entry.name)
      }
      const { dtype, offset, bytes, interleavedHeads } = entry
      const name = tensor.nativeName ?? tensor.name
      tensors.push({ name, dtype: dtype as SafetensorsFloat, offset, bytes, interleavedHeads })
    }
    if (tensors.length > 0) reads.push({ path: file.path, tensors })
  }
  const missing = expected.filter(({ name }) => !found.has(name)).map(({ name }) => name)
  const explanation = explain?.({ missing, unexpected, unfit }) ?? ''
  throwProblems(where, { missing, unexpected, misshapen }, explanation)
  return reads
}

/**
 * Tensors of Llama files that repeat what is known: the tied output projection, and rotary frequencies, which Hugging Face's
 * library computes from `rope_theta` too.
 */
function isDerived(name: string, config: ResolvedConfig): boolean {
  return (config.tie_word_embeddings && name === outputProjectionName) || name.endsWith('.rotary_emb.inv_freq')
}

function describeMismatch(entry: TensorEntry, tensor: ExpectedTensor): string | null {
  if (entry.shape.join() !== tensor.shape.join()) {
    return `"${entry.name}" is ${show(entry.shape)} and must be ${show(tensor.shape)}`
  }
  if (!['F32', 'BF16', 'F16'].includes(entry.dtype))
    return `"${entry.name}" is ${entry.dtype} and must be F32, BF16 or F16`
  return null
}

function throwProblems(
  where: string,
  { missing, unexpected, misshapen }: { missing: string[]; unexpected: string[]; misshapen: string[] },
  explanation: string,
): void {
  const problems: string[] = []
  if (missing.length > 0) problems.push(`${missing.length} missing (${firstFew(missing)})`)
  if (unexpected.length > 0) problems.push(`${unexpected.length} unexpected (${firstFew(unexpected)})`)
  if (misshapen.length > 0) problems.push(`${misshapen.length} unfit (${firstFew(misshapen)})`)
  if (problems.length === 0) return
  throw new MorError(
    'CHECKPOINT_INVALID',
    `${where}: the tensors do not fit the configuration: ${problems.join(', ')}${explanation}`,
  )
}

function firstFew(names: string[]): string {
  return names.length <= 5 ? names.join(', ') : `${names.slice(0, 5).join(', ')}, …`
}
