// The completions of a request while they run: starts them, turns their tokens into text, and ends them together.

import { GeneratedText, type TextPiece } from '../generated_text.js'
import type { FinishReason, Generation } from '../generation.js'
import type { GenerateOptions } from '../sampling.js'
import { apiErrorOf, asRefusal, refusalOf, shuttingDown } from './api_error.js'
import type { CompletionObserver } from './metrics.js'
import type { ResolvedServerOptions } from './options.js'

/** One completion while it runs. */
export interface RunningChoice {
  index: number
  prompt: ArrayLike<number>
  /** The field of the request that the prompt comes from. */
  field: string
  maxTokens: number
  generation: Generation
  text: GeneratedText
  observer: CompletionObserver
  /** What the text begins with, before anything generated. Null: nothing. */
  opening: Promise<TextPiece> | null
  /** Tokens so far. */
  tokens: number
  /** Sum of the recursions that ran for them. */
  depths: number
  /** Sum of their log-probabilities. */
  logprobs: number
  /** Null while it runs. */
  finishReason: FinishReason | null
}

/** What to start. */
export interface WantedChoices {
  prompts: readonly ArrayLike<number>[]
  /** Completions of each prompt. */
  perPrompt: number
  /** The field of the request that the prompts come from. */
  field: string
  maxTokens: number
  stop: readonly string[]
  /** A text of `stop` that ends in the text of the first ones is none. */
  minTokens: number
  /** The engine's options for the choice of this index. */
  optionsOf(index: number): GenerateOptions
  observe(): CompletionObserver
}

/** Starts every completion, or none; all of them end when `signal` aborts. Choice i belongs to prompt ⌊i / perPrompt⌋. */
export function startChoices(
  { engine, tokenizer }: Pick<ResolvedServerOptions, 'engine' | 'tokenizer'>,
  { prompts, perPrompt, field, maxTokens, stop, minTokens, optionsOf, observe }: WantedChoices,
  signal: AbortSignal,
): RunningChoice[] {
  if (signal.aborted) throw apiErrorOf(signal.reason)
  const choices: RunningChoice[] = []
  const abort = () => abortAll(choices)
  try {
    for (const prompt of prompts) {
      for (let i = 0; i < perPrompt; i++) {
        const index = choices.length
        const generation = engine.generate(prompt, optionsOf(index))
        const text = new GeneratedText(tokenizer.detokenizer(prompt), stop, minTokens)
        const started = { tokens: 0, depths: 0, logprobs: 0, finishReason: null, opening: null }
        choices.push({ index, prompt, field, maxTokens, generation, text, observer: observe(), ...started })
      }
    }
  } catch (error) {
    abort()
    throw refusalOf(error, field)
  }
  // One listener serves all choices: Node warns of a leak where one signal has many.
  signal.addEventListener('abort', abort, { once: true })
  return choices
}

export type Send = (choice: RunningChoice, piece: TextPiece, finishReason: FinishReason | null) => Promise<void> | void

/** Runs every completion to its end and returns how many tokens they generated. If one fails, all end and it throws. */
export async function runChoices(choices: readonly RunningChoice[], send: Send): Promise<number> {
  let failure: unknown = null
  const run = async (choice: RunningChoice) => {
    try {
      return await runChoice(choice, send)
    } catch (error) {
      failure ??= asRefusal(error, choice.field) ?? error
      abortAll(choices)
      return 0
    }
  }
  const counts = await Promise.all(choices.map(run))
  if (failure !== null) throw failure
  return counts.reduce((sum, count) => sum + count, 0)
}

/** Sends the text of a completion in pieces, the last with the reason why it ended. Returns how many tokens it generated. */
async function runChoice(choice: RunningChoice, send: Send): Promise<number> {
  const { generation, text, observer, prompt, maxTokens } = choice
  let start = 0
  let last: TextPiece | null = null
  let reason: FinishReason = 'error'
  try {
    if (choice.opening !== null) {
      const opening = await choice.opening
      await send(choice, opening, null)
      start = opening.text.length
    }
    for await (const token of generation) {
      observer.token(token, generation.arrivals[choice.tokens]!)
      choice.tokens++
      choice.depths += token.depth
      choice.logprobs += token.logprob
      const piece = text.push(token)
      if (text.stopped) {
        last = piece
        break
      }
      if (piece.text !== '' || piece.tokens.length > 0) await send(choice, shifted(piece, start), null)
    }
    if (last === null) {
      const { finishReason, stopToken } = await generation.result
      // Clients that score prompts count on an entry for the token after one, whatever it is.
      last = text.finish(choice.opening === null ? undefined : stopToken)
      reason = finishReason
    }
    if (text.stopped) reason = 'stop'
  } finally {
    choice.finishReason = reason
    // A stop string ends it at its last token: whatever else came is wanted no more.
    const ended = text.stopped ? generation.arrivals[choice.tokens - 1] : generation.timing.ended
    observer.finished(reason, prompt.length, maxTokens, ended ?? performance.now())
  }
  await send(choice, shifted(last, start), reason)
  return choice.tokens
}

/** The piece in a text that has `start` units before it. */
function shifted({ text, tokens }: TextPiece, start: number): TextPiece {
  return { text, tokens: start === 0 ? tokens : tokens.map((token) => ({ ...token, offset: token.offset + start })) }
}

/** A completion that has ended. */
export interface FinishedChoice extends TextPiece {
  finishReason: FinishReason
}

/**
 * Runs every completion to its end and returns them, and how many tokens they generated.
 * @throws {ApiError} if one was aborted: by `signal`, whose reason it is, or 503 as the engine was closed
 */
export async function collectChoices(
  choices: readonly RunningChoice[],
  signal: AbortSignal,
): Promise<{ finished: FinishedChoice[]; tokens: number }> {
  const finished = choices.map((): FinishedChoice => ({ text: '', tokens: [], finishReason: 'error' }))
  const tokens = await runChoices(choices, ({ index }, piece, finishReason) => {
    const choice = finished[index]!
    choice.text += piece.text
    for (const token of piece.tokens) choice.tokens.push(token) // a prompt may have more than a call takes arguments
    if (finishReason !== null) choice.finishReason = finishReason
  })
  if (finished.some(({ finishReason }) => finishReason === 'abort'))
    throw signal.aborted ? apiErrorOf(signal.reason) : shuttingDown()
  return { finished, tokens }
}

function abortAll(choices: readonly RunningChoice[]): void {
  for (const { generation } of choices) generation.abort()
}
