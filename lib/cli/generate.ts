// `mor generate`: loads a checkpoint and its tokenizer, and shows the text that the model generates.
import pc from 'picocolors'
import { Engine } from '../engine.js'
import { MorError } from '../errors.js'
import { type LoadOptions, Model } from '../model.js'
import { startOf } from '../tokenizer/start.js'
import { checkVocabulary } from '../tokenizer/vocabulary.js'
import type { Tokenizer } from '../tokenizer.js'
import { showGeneration } from './generation_view.js'
import type { OutputStream } from './output.js'
import { readPrompt } from './prompt_input.js'
import { findCheckpointTokenizer } from './tokenizer_source.js'

export interface GenerateCommandOptions extends Pick<LoadOptions, 'device' | 'dtype' | 'threads' | 'nice'> {
  /** `-` stands for standard input. */
  prompt: string
  tokenizer?: string
  maxTokens: number
  temperature: number
  topK: number
  topP: number
  seed?: number
  routerThreshold?: number
  maxRecursions?: number
  depths?: boolean
}

/** Resolves to the reason for which generation ended. */
export async function generate(
  checkpoint: string,
  options: GenerateCommandOptions,
  output: OutputStream,
  signal: AbortSignal,
): Promise<string> {
  const { device, dtype, threads, nice, prompt: given, tokenizer: source, depths, ...sampling } = options
  const tokenizer = await findCheckpointTokenizer(checkpoint, source)
  const prompt = given === '-' ? await readPrompt(process.stdin, signal) : given
  const ids = await promptIds(tokenizer, prompt, signal)
  await using model = await Model.load(checkpoint, { device, dtype, threads, nice, signal })
  checkVocabulary(tokenizer, model.config.vocab_size, checkpoint)
  await using engine = new Engine(model)
  const generation = engine.generate(ids, { ...sampling, signal })
  const recursions = depths ? model.config.num_recursions : null
  await showGeneration(
    generation,
    tokenizer.detokenizer(ids),
    { prompt, recursions, painters: pc, mode: output.isTTY ? 'terminal' : 'json' },
    output,
  )
  return (await generation.result).finishReason
}

/** The ids of a prompt, or of what an empty prompt stands for. */
export async function promptIds(tokenizer: Tokenizer, prompt: string, signal: AbortSignal): Promise<Int32Array> {
  const [encoded] = await tokenizer.encodeBatch([prompt], { signal })
  const ids = startOf(encoded!, tokenizer)
  if (ids !== null) return ids
  throw new MorError(
    'INVALID_ARGUMENT',
    `the tokenizer ${tokenizer.name} has no begin or end token to start from: give a --prompt`,
  )
}
