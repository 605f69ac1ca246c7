// Makes a checkpoint of another one: a recursive model or a Mixture-of-Recursions of a vanilla one, or the same in another dtype or
// file format.
import { join } from 'node:path'
import { Checker, checkPath, show } from './check.js'
import { configFiles } from './checkpoint.js'
import { weightsFileName } from './checkpoint_files.js'
import { kvCaches, type ModelConfig, type ResolvedConfig, resolveConfig, sharings } from './config.js'
import type { RouterConfig } from './config_router.js'
import { type Initialisation, initialisations, keptLayers, sourceLayers } from './convert/layers.js'
import { checkAbsent, checkRoom, makeOutput } from './convert/new_output.js'
import { type NewTensor, newTensors } from './convert/recursive.js'
import { startingRouter } from './convert/router_start.js'
import { type ConversionSource, openSource } from './convert/source.js'
import { throwIfAborted, wrapNativeAsync } from './errors.js'
import { ggufFile } from './gguf/writer.js'
import type { NativeDerivedFile, SafetensorsFloat } from './native/files.js'
import { loadNative } from './native_loader.js'
import { buildSafetensorsHeader, tensorBytes } from './safetensors.js'
import { writeTokenizerFiles } from './tokenizer/files.js'

export interface ConvertOptions {
  /** The folder to make, which must not be there yet, or be empty; of a vanilla model also a file whose name ends with .gguf. */
  output: string
  /** Default 1: the model stays as it is. */
  recursions?: number
  /** Default "middle_cycle". */
  sharing?: ModelConfig['sharing']
  /** Layers that a token passes in the new model, its `num_hidden_layers`. Default: as many as in the source. */
  layers?: number
  /** Which layers of the source the shared block is made of (docs/model.md section 10). Default "upper". */
  init?: Initialisation
  /** In place of `init`: the layer of the source that each stored layer of the new model is, first to last. */
  keep?: readonly number[]
  /** Default "recursion_wise". */
  kvCache?: ModelConfig['kv_cache']
  /**
   * Default null: none. What it leaves out is such that the new model starts with the output of the same model without it
   * (docs/model.md section 10).
   */
  router?: RouterConfig | null
  /** Of the weights. Default: that of the source. */
  dtype?: ConvertDType
  signal?: AbortSignal
}

export type ConvertDType = keyof typeof dtypes

export interface ConvertResult {
  config: ResolvedConfig
  /** The layers of the source that each stored layer is made of, first to last; several: their mean. */
  layers: number[][]
  /** Of all tensors. */
  bytes: number
}

const dtypes = { float32: 'F32', bfloat16: 'BF16', float16: 'F16' } as const satisfies Record<string, SafetensorsFloat>

const optionKeys = ['output', 'recursions', 'sharing', 'layers', 'init', 'keep', 'kvCache', 'router', 'dtype', 'signal']
/** Options of models with a shared block. */
const recursiveKeys = ['sharing', 'kvCache', 'init']

const ggufFileName = 'model.gguf'
const isGgufName = (output: string) => output.toLowerCase().endsWith('.gguf')

/**
 * Makes a new checkpoint of the vanilla one in `folder`, or in a GGUF file, with the files of its tokenizer, its chat template and what its
 * generation_config.json says. It works tensor by tensor and never has the whole checkpoint in memory. The output is there when
 * it is complete, or not at all.
 * @throws {MorError} INVALID_ARGUMENT, INVALID_CONFIG, CHECKPOINT_MISSING, CHECKPOINT_INVALID, IO_ERROR (a full disk, say), ABORTED
 */
export async function convert(folder: string, options: ConvertOptions): Promise<ConvertResult> {
  const given = Checker.of(options, 'convert')
  given.onlyKeys(optionKeys)
  const signal = given.signal()
  const { output } = options
  checkPath(folder, 'convert: the checkpoint')
  checkPath(output, 'convert: output')
  // The caller may change its options while the source is read.
  const check = new Checker(
    Object.fromEntries(Object.entries(options).map(([key, value]) => [key, copyOf(value)])),
    'convert',
  )
  const dtype = check.has('dtype') ? check.choice('dtype', Object.keys(dtypes) as ConvertDType[]) : null
  throwIfAborted(signal, `converting ${folder}`)
  const outputKind = isGgufName(output) ? 'file' : 'folder'
  await checkAbsent(output, outputKind)
  const source = await openSource(folder, signal)
  const config = targetConfig(source.config, check)
  const layers = layersOf(source.config, config, check)
  const tensors = newTensors(source, config, layers, dtype === null ? null : dtypes[dtype])
  const bytes = tensors.reduce((sum, tensor) => sum + tensorBytes(tensor.dtype, tensor.shape), 0)
  await checkRoom(output, bytes)
  await makeOutput(output, outputKind, async (staging) => {
    const write = (files: NativeDerivedFile[]) =>
      wrapNativeAsync(() => loadNative().writeDerivedFiles(staging, files, signal), signal)
    await writeTokenizerFiles(source.tokenizer?.filesFor(staging) ?? [], staging)
    await write(describingFiles(source, config, dtype))
    if (outputKind === 'folder') {
      await write([weightsFileOf(tensors)])
      return staging
    }
    await write([await ggufFile(ggufFileName, config, tensors, staging)])
    return join(staging, ggufFileName)
  })
  return { config, layers, bytes }
}

function copyOf(value: unknown): unknown {
  if (Array.isArray(value)) return [...value]
  return typeof value === 'object' && value !== null ? { ...value } : value
}

function targetConfig(source: ResolvedConfig, check: Checker): ResolvedConfig {
  const recursions = check.integer('recursions', { min: 1, max: 255, fallback: 1 })
  for (const key of recursions === 1 ? recursiveKeys : []) {
    if (!check.has(key)) continue
    check.fail(
      `${key} is ${show(check.object[key])}, but recursions is 1, and a model without recursion has no shared block: ` +
        `give more recursions, or leave ${key} out`,
    )
  }
  const router = check.has('router') ? check.child('router').object : null
  if (router?.type === 'expert_choice' && router.activation === 'tanh') {
    check.fail(
      'router.activation is "tanh", whose gates are 0 at the start, so that no layer of the block would count: make it "sigmoid"',
    )
  }
  const { model_type, ...given }: ModelConfig = {
    ...source,
    num_hidden_layers: check.integer('layers', { min: 1, fallback: source.num_hidden_layers }),
    num_recursions: recursions,
    sharing: check.choice('sharing', sharings, 'middle_cycle'),
    kv_cache: check.choice('kvCache', kvCaches, 'recursion_wise'),
    router: router === null ? null : startingRouter(router as unknown as RouterConfig, recursions),
  }
  return resolveConfig(given, 'convert, the new model (layers is its num_hidden_layers)')
}

function layersOf(source: ResolvedConfig, target: ResolvedConfig, check: Checker): number[][] {
  const { keep } = check.object
  if (keep === undefined || keep === null) {
    const init = check.choice('init', initialisations, 'upper')
    return sourceLayers(source.num_hidden_layers, target, init)
  }
  if (check.has('init')) check.fail('keep and init are both given: leave one of them out')
  if (!Array.isArray(keep)) check.fail(`keep is ${show(keep)}; it must be an array of layers of the source`)
  return keptLayers(source.num_hidden_layers, target, keep)
}

/** config.json and generation_config.json. */
function describingFiles(
  { generation, dtype: stored }: ConversionSource,
  config: ResolvedConfig,
  dtype: ConvertDType | null,
): NativeDerivedFile[] {
  const name = dtype ?? (Object.keys(dtypes) as ConvertDType[]).find((each) => dtypes[each] === stored)!
  return configFiles({ config, generation }, name).map(({ name, head }) => ({
    name,
    head: Buffer.concat(head),
    tensors: [],
  }))
}

function weightsFileOf(tensors: readonly NewTensor[]): NativeDerivedFile {
  const unpadded = tensors.map((tensor) => ({ ...tensor, padding: 0 }))
  return { name: weightsFileName, head: buildSafetensorsHeader(tensors), tensors: unpadded }
}
