// The server's Prometheus metrics: under vLLM's name where vLLM has the same metric, else with the prefix mor_.
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { FinishReason, GeneratedToken } from '../generation.js'
import type { EngineStats } from '../native/engine.js'
import { EngineTotals } from './engine_totals.js'
import type { ServedEngine } from './options.js'
import type { FieldClass } from './unknown_fields.js'

/** Follows one completion from the arrival of its request. */
export interface CompletionObserver {
  /** @param came when, in milliseconds of `performance.now()`: before it was read, where the client of a stream is slow */
  token(token: GeneratedToken, came: number): void
  /** @param ended when, likewise */
  finished(reason: FinishReason, promptTokens: number, maxTokens: number, ended: number): void
}

/** Buckets in seconds for the times of single tokens. */
const TOKEN_BUCKETS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]
/** Buckets in seconds for the times of whole requests. */
const REQUEST_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500]

type EngineReading = (stats: EngineStats) => number

/** Gauges of the engine, under vLLM's names and ours; requests that did not come through the server count too. */
const engineGauges: [name: string, help: string, read: EngineReading][] = [
  ['vllm:num_requests_running', 'Sequences in the running batch.', (stats) => stats.running],
  ['vllm:num_requests_waiting', 'Sequences waiting to run.', (stats) => stats.waiting],
  [
    'vllm:kv_cache_usage_perc',
    'Share of the KV cache in use; 1 is all of it.',
    (stats) => stats.kvBlocksUsed / Math.max(1, stats.kvBlocksTotal),
  ],
  [
    'mor_kv_cache_cached_perc',
    'Share of the KV cache kept for prompts to come, given up when room is needed.',
    (stats) => stats.kvBlocksCached / Math.max(1, stats.kvBlocksTotal),
  ],
  ['mor_kv_cache_used_bytes', 'Bytes of keys and values of the running sequences.', (stats) => stats.kvBytesUsed],
  [
    'mor_kv_cache_vanilla_bytes',
    'What the same tokens would take if every layer pass cached every token.',
    (stats) => stats.kvBytesVanilla,
  ],
]

const engineCounters: [name: string, help: string, read: EngineReading][] = [
  ['vllm:prompt_tokens_total', 'Prompt tokens processed.', (stats) => stats.promptTokens],
  ['vllm:generation_tokens_total', 'Tokens generated.', (stats) => stats.tokensGenerated],
  [
    'vllm:prefix_cache_queries_total',
    'Prompt tokens, whether or not the prefix cache was asked for them.',
    (stats) => stats.promptTokens,
  ],
  [
    'vllm:prefix_cache_hits_total',
    'Tokens found in the prefix cache instead of being computed, also again by preempted sequences.',
    (stats) => stats.prefixHitTokens,
  ],
  [
    'vllm:num_preemptions_total',
    'Sequences that had to leave the batch, to be computed again.',
    (stats) => stats.preemptions,
  ],
  ['mor_engine_steps_total', 'Steps of the scheduler.', (stats) => stats.steps],
]

export class ServerMetrics {
  readonly #registry = new Registry()
  /** Requests that did not come through the server count too. */
  readonly engines: EngineTotals
  readonly #gauges: { gauge: Gauge; read: EngineReading }[]
  readonly #counters: { counter: Counter; read: EngineReading }[]
  readonly #tokensByDepth: Counter<'depth'>
  readonly #ignoredFields: Counter<'class'>
  readonly #success: Counter<'finished_reason'>
  readonly #timeToFirstToken: Histogram
  readonly #interTokenLatency: Histogram
  readonly #timePerOutputToken: Histogram
  readonly #latency: Histogram
  readonly #promptTokens: Histogram
  readonly #generationTokens: Histogram
  readonly #maxTokens: Histogram
  readonly #tokenDepth: Histogram

  constructor(engine: ServedEngine, modelName: string) {
    const { num_recursions, max_position_embeddings } = engine.model.config
    this.engines = new EngineTotals(engine)
    this.#registry.setDefaultLabels({ model_name: modelName })
    const registers = [this.#registry]
    const histogram = (name: string, help: string, buckets: number[]) =>
      new Histogram({ name, help, buckets, registers })
    this.#gauges = engineGauges.map(([name, help, read]) => ({ gauge: new Gauge({ name, help, registers }), read }))
    this.#counters = engineCounters.map(([name, help, read]) => ({
      counter: new Counter({ name, help, registers }),
      read,
    }))
    this.#tokensByDepth = new Counter({
      name: 'mor_tokens_by_depth_total',
      help: 'Prompt and generated tokens by the recursions they ran.',
      labelNames: ['depth'],
      registers,
    })
    this.#success = new Counter({
      name: 'vllm:request_success_total',
      help: 'Completions that ended, by reason.',
      labelNames: ['finished_reason'],
      registers,
    })
    this.#ignoredFields = new Counter({
      name: 'mor_ignored_fields_total',
      help: 'Fields of requests that the server does not act on, by the API that they belong to.',
      labelNames: ['class'],
      registers,
    })
    this.#timeToFirstToken = histogram(
      'vllm:time_to_first_token_seconds',
      'From the arrival of a request to a completion’s first token.',
      REQUEST_BUCKETS,
    )
    this.#interTokenLatency = histogram(
      'vllm:inter_token_latency_seconds',
      'Between a token and the one before it.',
      TOKEN_BUCKETS,
    )
    this.#timePerOutputToken = histogram(
      'vllm:request_time_per_output_token_seconds',
      'Mean time between the tokens of a completion.',
      TOKEN_BUCKETS,
    )
    this.#latency = histogram(
      'vllm:e2e_request_latency_seconds',
      'From the arrival of a request to the end of a completion.',
      REQUEST_BUCKETS,
    )
    const counts = powersOfTwo(max_position_embeddings)
    this.#promptTokens = histogram('vllm:request_prompt_tokens', 'Prompt tokens of a completion.', counts)
    this.#generationTokens = histogram('vllm:request_generation_tokens', 'Tokens generated for a completion.', counts)
    this.#maxTokens = histogram('vllm:request_params_max_tokens', 'max_tokens of a completion.', counts)
    this.#tokenDepth = histogram(
      'mor_generated_token_depth',
      'Recursions of the pass that produced a token; 0 where the router let it pass the block by.',
      Array.from({ length: num_recursions + 1 }, (_, depth) => depth),
    )
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  /** @throws {MorError} DISPOSED if the engine is closed */
  render(): Promise<string> {
    const stats = this.engines.stats()
    for (const { gauge, read } of this.#gauges) gauge.set(read(stats))
    for (const { counter, read } of this.#counters) setCounter(counter, read(stats))
    this.#tokensByDepth.reset()
    stats.depthHistogram.forEach((tokens, r) => {
      this.#tokensByDepth.inc({ depth: String(r + 1) }, tokens)
    })
    return this.#registry.metrics()
  }

  ignoredField(fieldClass: FieldClass): void {
    this.#ignoredFields.inc({ class: fieldClass })
  }

  /** @param arrived `performance.now()` when the request came */
  observeCompletion(arrived: number): CompletionObserver {
    let tokens = 0
    let first = 0
    let last = arrived
    return {
      token: ({ depth }, came) => {
        if (tokens++ === 0) {
          first = came
          this.#timeToFirstToken.observe((came - arrived) / 1000)
        } else this.#interTokenLatency.observe((came - last) / 1000)
        last = came
        this.#tokenDepth.observe(depth)
      },
      finished: (reason, promptTokens, maxTokens, ended) => {
        this.#success.inc({ finished_reason: reason })
        this.#latency.observe((ended - arrived) / 1000)
        if (tokens > 1) this.#timePerOutputToken.observe((last - first) / 1000 / (tokens - 1))
        this.#promptTokens.observe(promptTokens)
        this.#generationTokens.observe(tokens)
        this.#maxTokens.observe(maxTokens)
      },
    }
  }
}

/** A counter whose value is the engine's own count at the moment of a scrape. */
function setCounter(counter: Counter, value: number): void {
  counter.reset()
  counter.inc(value)
}

/** 1, 2, 4, … up to the first that is at least `max`. */
function powersOfTwo(max: number): number[] {
  return Array.from({ length: Math.ceil(Math.log2(max)) + 1 }, (_, exponent) => 2 ** exponent)
}
