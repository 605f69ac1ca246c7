// A checkpoint folder as `mor serve` serves it: model, engine, tokenizer and chat template, loaded and released together.
import { ChatTemplate } from '../chat/chat_template.js'
import { Engine, type EngineOptions } from '../engine.js'
import { MorError } from '../errors.js'
import { type LoadOptions, Model } from '../model.js'
import type { ModelOptions } from '../server/index.js'
import { Tokenizer } from '../tokenizer.js'
import { findCheckpointTokenizer } from './tokenizer_source.js'

export interface CheckpointSource {
  folder: string
  /** In place of the folder's own. */
  tokenizer?: string
  /** File, in place of the folder's own. */
  chatTemplate?: string
  load: Pick<LoadOptions, 'device' | 'dtype' | 'threads' | 'nice'>
  engine: Pick<EngineOptions, 'maxBatchSize' | 'kvCacheBytes'>
}

export interface ServedCheckpoint {
  /** What a server is given. */
  served: ModelOptions & { engine: Engine }
  close(): Promise<void>
}

/** Throws what its parts throw. */
export async function loadCheckpoint(source: CheckpointSource, signal: AbortSignal): Promise<ServedCheckpoint> {
  const tokenizer = await findCheckpointTokenizer(source.folder, source.tokenizer)
  const chatTemplate = await loadTemplate(source)
  const model = await Model.load(source.folder, { ...source.load, signal })
  try {
    const engine = new Engine(model, source.engine)
    return {
      served: { engine, tokenizer, chatTemplate },
      close: async () => {
        await engine.close()
        await model.dispose()
      },
    }
  } catch (error) {
    await model.dispose()
    throw error
  }
}

/** The template of the folder, if it has one, or the one that was asked for, with the special tokens of the tokenizer in use. */
async function loadTemplate({ folder, tokenizer, chatTemplate: path }: CheckpointSource): Promise<ChatTemplate | null> {
  if (path === undefined) return ChatTemplate.load(folder)
  const specialTokensOf = tokenizer === undefined || tokenizer === Tokenizer.byteLevel().name ? folder : tokenizer
  const template = await ChatTemplate.load(path, { specialTokensOf })
  if (template !== null) return template
  throw new MorError('INVALID_ARGUMENT', `--chat-template: there is no chat template in ${path}; give a file of Jinja`)
}

/** Generates a token, for which the engine takes its memory. Throws what goes wrong. */
export async function tryOut({ served: { engine, tokenizer } }: ServedCheckpoint): Promise<void> {
  const start = tokenizer.bosTokenId ?? tokenizer.eosTokenId ?? 0
  const { error } = await engine.generate([start], { maxTokens: 1 }).result
  if (error !== undefined) throw error
}
