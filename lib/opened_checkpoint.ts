// A checkpoint that has been opened: what it says of the model, and the headers of its weights.
import type { JsonObject } from './check.js'
import { readWeightFiles } from './checkpoint_files.js'
import type { ResolvedConfig } from './config.js'
import { readCheckpointConfig } from './config_file.js'
import type { TextSource } from './model_text.js'
import type { SafetensorsFile } from './safetensors.js'
import { findTokenizerFiles, type SavedTokenizer } from './tokenizer/files.js'

export interface OpenedCheckpoint {
  config: ResolvedConfig
  /** The content of generation_config.json. */
  generation: JsonObject
  files: SafetensorsFile[]
  /** The files of its tokenizer; null where it has none. */
  tokenizer: SavedTokenizer | null
  text: TextSource
}

/** @throws {MorError} CHECKPOINT_MISSING, CHECKPOINT_INVALID, INVALID_CONFIG, IO_ERROR */
export async function openCheckpoint(path: string): Promise<OpenedCheckpoint> {
  const { config, generation } = await readCheckpointConfig(path)
  return {
    config,
    generation,
    files: await readWeightFiles(path),
    tokenizer: await findTokenizerFiles(path),
    text: { folder: path, tokenizer: null, chatTemplate: null },
  }
}
