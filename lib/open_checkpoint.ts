// Opens a checkpoint: a folder of this package or of Hugging Face, or a GGUF file.
import { readWeightFiles } from './checkpoint_files.js'
import { readCheckpointConfig } from './config_file.js'
import { openGguf } from './gguf/open.js'
import { isGguf } from './gguf/reader.js'
import type { OpenedCheckpoint } from './opened_checkpoint.js'
import { findTokenizerFiles } from './tokenizer/files.js'

/** @throws {MorError} CHECKPOINT_MISSING, CHECKPOINT_INVALID, INVALID_CONFIG, IO_ERROR */
export async function openCheckpoint(path: string): Promise<OpenedCheckpoint> {
  if (await isGguf(path)) return openGguf(path)
  const { config, generation } = await readCheckpointConfig(path)
  return {
    config,
    generation,
    files: await readWeightFiles(path),
    tokenizer: await findTokenizerFiles(path),
    text: { folder: path, tokenizer: null, chatTemplate: null },
  }
}
