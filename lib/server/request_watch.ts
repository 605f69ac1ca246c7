// What is known of a request that generates, from its arrival to its end: for the log and for traces.
import type { FinishReason } from '../generation.js'
import type { RunningChoice } from './running_choices.js'

/** As OpenTelemetry's conventions for generative models name them. */
export type RequestOperation = 'chat' | 'text_completion'

/** What a request came to; nothing in it is a text of the client or of the model. */
export interface RequestSummary {
  maxTokens: number
  temperature: number
  promptTokens: number
  completionTokens: number
  finishReasons: FinishReason[]
}

/** What is known of a request once its completions run. */
export type RequestFacts = Pick<RequestSummary, 'maxTokens' | 'promptTokens'> & { temperature?: number }

export class RequestWatch {
  /** In milliseconds of `performance.now()`. */
  readonly arrived = performance.now()
  #choices: readonly RunningChoice[] = []
  #facts: RequestFacts = { maxTokens: 0, promptTokens: 0 }

  /** Empty where none was started. */
  get choices(): readonly RunningChoice[] {
    return this.#choices
  }

  /** Its completions run. */
  running(choices: readonly RunningChoice[], facts: RequestFacts): void {
    this.#choices = choices
    this.#facts = facts
  }

  get summary(): RequestSummary {
    const { maxTokens, promptTokens, temperature = 1 } = this.#facts
    return {
      maxTokens,
      temperature,
      promptTokens,
      completionTokens: this.#choices.reduce((sum, { tokens }) => sum + tokens, 0),
      finishReasons: this.#choices.flatMap(({ finishReason }) => finishReason ?? []),
    }
  }

  /** Milliseconds from the arrival to the first token of any completion (null: there was none), and until now. */
  get times(): { firstTokenMs: number | null; totalMs: number } {
    const first = this.#choices.flatMap(({ generation: { timing } }) => timing.firstToken ?? [])
    const since = (time: number) => Math.round((time - this.arrived) * 1000) / 1000
    return { firstTokenMs: first.length === 0 ? null : since(Math.min(...first)), totalMs: since(performance.now()) }
  }
}
