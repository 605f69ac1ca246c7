// Scores the tokens of continuations: by the engine, whose prefix cache computes a common context once, or by forward passes.
import { Engine } from '../engine.js'
import { MorError } from '../errors.js'
import type { PassOptions } from '../forward.js'
import type { Model } from '../model.js'
import type { ScoredTokens } from './encode.js'
import { atPlace } from './place.js'

/** How tokens are routed. */
export type RoutingOptions = Pick<PassOptions, 'routing' | 'routerThreshold' | 'maxRecursions'>

export interface Score {
  /** Of the scored tokens together, in nats. */
  logprob: number
  /** Whether each of them is the most likely one in its place. */
  greedy: boolean
}

export class Scorer {
  /** Sequences of which the beginning was cut off because they are longer than the context of the model. */
  cut = 0
  /** Tokens scored. */
  tokens = 0
  readonly #model: Model
  readonly #options: RoutingOptions
  /** Null where the routing looks at the whole sequence, so that no two share a beginning. */
  readonly #engine: Engine | null

  constructor(model: Model, options: RoutingOptions) {
    this.#model = model
    this.#options = options
    const causal = options.routing !== 'topk' || model.config.router?.type !== 'expert_choice'
    this.#engine = causal ? new Engine(model) : null
  }

  /**
   * A sequence longer than the context loses its beginning.
   * @param where file and line, for messages
   * @throws {MorError} INVALID_ARGUMENT if the scored tokens alone are too many; NON_FINITE, ABORTED, and as Model.forward
   */
  async score({ tokens: all, from: first }: ScoredTokens, where: string, signal: AbortSignal): Promise<Score> {
    const context = this.#model.config.max_position_embeddings
    const excess = Math.max(0, all.length - (context + 1)) // the last token is only predicted
    const tokens = all.subarray(excess)
    const from = first - excess
    if (from < 1) {
      const text = `${all.length - first} tokens are to be scored; the context of the model holds ${context}`
      throw new MorError('INVALID_ARGUMENT', `${where}: ${text}: shorten the text, or leave the line out`)
    }
    const engine = tokens.length < context ? this.#engine : null
    const score = await atPlace(where, () =>
      engine === null ? this.#byForward(tokens, from, signal) : this.#byEngine(engine, tokens, from, signal),
    )
    if (!Number.isFinite(score.logprob)) {
      throw new MorError(
        'NON_FINITE',
        `${where}: the log-likelihood is ${score.logprob}; the model computes no finite one`,
      )
    }
    if (excess > 0) this.cut++
    this.tokens += tokens.length - from
    return score
  }

  async close(): Promise<void> {
    await this.#engine?.close()
  }

  async #byEngine(engine: Engine, tokens: Int32Array, from: number, signal: AbortSignal): Promise<Score> {
    const { routerThreshold, maxRecursions } = this.#options
    const result = await engine.generate(tokens, {
      maxTokens: 0,
      promptLogprobs: 1,
      promptLogprobsFrom: from,
      ...(routerThreshold !== undefined && { routerThreshold }),
      ...(maxRecursions !== undefined && { maxRecursions }),
      signal,
    }).result
    if (result.error) throw result.error
    if (result.finishReason === 'abort') {
      throw new MorError('ABORTED', 'the evaluation was aborted', { cause: signal.reason })
    }
    const scored = result.promptTokens!.slice(from).map((token) => token!)
    return {
      logprob: scored.reduce((sum, { logprob }) => sum + logprob, 0),
      greedy: scored.every(({ token, topLogprobs }) => topLogprobs![0]!.token === token),
    }
  }

  async #byForward(tokens: Int32Array, from: number, signal: AbortSignal): Promise<Score> {
    const positions = Int32Array.from({ length: tokens.length - from }, (_, i) => from - 1 + i)
    const { logits, shape } = await this.#model.forward([tokens.subarray(0, -1)], {
      ...this.#options,
      signal,
      positions,
    })
    const score = { logprob: 0, greedy: true }
    for (let i = 0; i < positions.length; i++) {
      const row = logits.subarray(i * shape[2], (i + 1) * shape[2])
      const { logprob, likeliest } = logprobOf(row, tokens[from + i]!)
      score.logprob += logprob
      score.greedy &&= likeliest
    }
    return score
  }
}

/** Of a token, by logits over the vocabulary: its log-probability, and whether it is the first of the most likely ones. */
function logprobOf(logits: Float32Array, token: number): { logprob: number; likeliest: boolean } {
  let best = 0
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i
  let sum = 0
  for (const logit of logits) sum += Math.exp(logit - logits[best]!)
  return { logprob: logits[token]! - logits[best]! - Math.log(sum), likeliest: best === token }
}
