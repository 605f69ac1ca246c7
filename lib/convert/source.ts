// The checkpoint that another is made of: its configuration, and where each of its tensors lies.
import { locateWeights } from '../checkpoint.js'
import { modelKind, type ResolvedConfig } from '../config.js'
import { toNativeConfig } from '../config_native.js'
import { MorError, wrapNative } from '../errors.js'
import type { NativeReadFile, SafetensorsFloat } from '../native/files.js'
import { loadNative } from '../native_loader.js'
import { openCheckpoint } from '../open_checkpoint.js'
import type { OpenedCheckpoint } from '../opened_checkpoint.js'
import { checkTokenizerIds } from './tokenizer_ids.js'

export type SourceTensor = NativeReadFile['tensors'][number] & { path: string }

/** Tensors by their names, and what is kept in that dtype where nothing else is said. */
export interface WeightSource {
  config: ResolvedConfig
  tensors: ReadonlyMap<string, SourceTensor>
  /** That of the embedding. */
  dtype: SafetensorsFloat
}

export interface ConversionSource extends OpenedCheckpoint, WeightSource {}

/**
 * Opens a vanilla checkpoint and checks that all of its tensors are there, and an embedding for every id of its tokenizer.
 * @throws {MorError} as `Model.load`, INVALID_ARGUMENT for a model that is not vanilla, and CHECKPOINT_INVALID for a tokenizer with
 * more ids than the model
 */
export async function openSource(path: string, signal: AbortSignal | undefined): Promise<ConversionSource> {
  const opened = await openCheckpoint(path)
  const { config, files } = opened
  if (modelKind(config) !== 'vanilla') {
    throw new MorError(
      'INVALID_ARGUMENT',
      `${path} holds a model of ${config.num_recursions} recursions${config.router === null ? '' : ' with a router'}: only a vanilla model ` +
        'can be converted. Give the checkpoint that it was made of',
    )
  }
  await checkTokenizerIds(path, config.vocab_size)
  const table = wrapNative(() => loadNative().parameterTable(toNativeConfig(config), 'bfloat16'))
  const reads = await locateWeights(table, config, files, path, signal)
  const tensors = new Map(
    reads.flatMap((file) => file.tensors.map((tensor) => [tensor.name, { ...tensor, path: file.path }] as const)),
  )
  return { ...opened, tensors, dtype: tensors.get('model.embed_tokens.weight')!.dtype }
}
