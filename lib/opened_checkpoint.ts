// A checkpoint that has been opened: what it says of the model, and the headers of its weights.
import type { JsonObject } from './check.js'
import type { ResolvedConfig } from './config.js'
import type { TextSource } from './model_text.js'
import type { SafetensorsFile } from './safetensors.js'
import type { SavedTokenizer } from './tokenizer/files.js'

export interface OpenedCheckpoint {
  config: ResolvedConfig
  /** The content of generation_config.json. */
  generation: JsonObject
  files: SafetensorsFile[]
  /** The files of its tokenizer; null where it has none. */
  tokenizer: SavedTokenizer | null
  text: TextSource
}
