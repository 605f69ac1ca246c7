// An engine that generates what a test says, when the test says so.
import { type ModelConfig, resolveConfig } from '../../../lib/config.js'
import { MorError } from '../../../lib/errors.js'
import { type GeneratedToken, Generation } from '../../../lib/generation.js'
import type { EngineStats } from '../../../lib/native/engine.js'
import type { GenerateOptions } from '../../../lib/sampling.js'
import type { ServedEngine } from '../../../lib/server/index.js'

const config: ModelConfig = {
  vocab_size: 320,
  hidden_size: 8,
  intermediate_size: 16,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  max_position_embeddings: 64,
  num_recursions: 3,
  router: { type: 'expert_choice' },
}

/** One request as the engine sees it. */
export interface ScriptedRequest {
  prompt: number[]
  options: GenerateOptions
  generation: Generation
  aborted: boolean
}

export class ScriptedEngine implements ServedEngine {
  readonly model = { config: resolveConfig(config) }
  readonly requests: ScriptedRequest[] = []
  closed = false
  #onRequest: (request: ScriptedRequest) => void

  /** @param onRequest is called for each request, after its caller has received the generation */
  constructor(onRequest: (request: ScriptedRequest) => void = () => {}) {
    this.#onRequest = onRequest
  }

  generate(prompt: ArrayLike<number>, options: GenerateOptions): Generation {
    const bad = Array.from(prompt).find((token) => token >= config.vocab_size)
    if (bad !== undefined) throw new MorError('TOKEN_OUT_OF_RANGE', `the token is ${bad}`)
    const generation = new Generation(
      prompt,
      () => {
        request.aborted = true
        setImmediate(() => generation.finish('abort'))
      },
      {
        topLogprobs: (options.topLogprobs ?? 0) > 0,
        ...(options.promptLogprobs !== undefined && { promptTokensFrom: 1 }),
      },
    )
    const request: ScriptedRequest = { prompt: Array.from(prompt), options, generation, aborted: false }
    this.requests.push(request)
    setImmediate(() => this.#onRequest(request))
    return generation
  }

  stats(): EngineStats {
    if (this.closed) throw new MorError('DISPOSED', 'the engine is closed')
    return { ...counts, running: this.requests.length }
  }
}

const counts: EngineStats = {
  running: 0,
  waiting: 2,
  finished: 0,
  tokensGenerated: 40,
  promptTokens: 30,
  prefixHitTokens: 12,
  steps: 0,
  preemptions: 5,
  kvBlocksTotal: 8,
  kvBlocksUsed: 2,
  kvBlocksCached: 4,
  kvBlocksFree: 2,
  kvBytesTotal: 800,
  kvBytesUsed: 200,
  kvBytesVanilla: 300,
  depthHistogram: [3, 2, 1],
}

/** A token that is the most likely one, followed by the next ids. */
function scripted(token: number, listed: number): GeneratedToken {
  const logprob = -token / 128
  const topLogprobs = Array.from({ length: listed }, (_, i) => ({ token: token + i, logprob: logprob - i }))
  return { token, depth: 2, logprob, ...(listed > 0 && { topLogprobs }) }
}

/** Reports the prompt where asked for, generates the bytes of `text`, and ends with `reason`. */
export function answerText(text: string, reason: 'stop' | 'length' = 'stop') {
  return ({ generation, prompt, options: { topLogprobs = 0, promptLogprobs } }: ScriptedRequest) => {
    if (promptLogprobs !== undefined)
      for (const token of prompt.slice(1)) generation.pushPrompt(scripted(token, promptLogprobs))
    for (const token of Buffer.from(text)) generation.push(scripted(token, topLogprobs))
    generation.finish(reason)
  }
}
