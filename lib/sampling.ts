// The options of a generation: how the next token is chosen and when it stops; defaults and checks.
import { Checker, show } from './check.js'
import { blockRecurs, type ResolvedConfig } from './config.js'
import { MorError } from './errors.js'
import { mostTopLogprobs, type NativeGenerateParams } from './native/engine.js'
import { copyTokens } from './tokens.js'

export interface GenerateOptions {
  /** Most tokens to generate; fewer where the context ends first. 0 only with `promptLogprobs`. */
  maxTokens: number
  /** 0 = greedy. Default 1. */
  temperature?: number
  /** Keep the most likely k tokens; 0 = all. Default 0. */
  topK?: number
  /** Keep the most likely tokens that together reach this probability, in (0, 1]. Default 1. */
  topP?: number
  /** Keep the tokens that have at least this share of the most likely one's probability, from 0 (all, the default) to 1. */
  minP?: number
  /** Same seed, same tokens, whatever else runs. Default: a random one. */
  seed?: number
  /** Is added to the logits of these tokens: by token id, each from -100 to 100. */
  logitBias?: Record<number, number>
  /**
   * Divides the positive logits of tokens that are in the prompt or the output so far, and multiplies the others; from 0.01
   * to 100. Default 1: none.
   */
  repetitionPenalty?: number
  /** Is subtracted from the logits of tokens that are in the output so far; from -2 to 2. Default 0. */
  presencePenalty?: number
  /** Is subtracted for each time that a token is in the output so far; from -2 to 2. Default 0. */
  frequencyPenalty?: number
  /**
   * Texts that end generation, none of them empty; they are not part of the text, while their tokens are among the result's.
   * The engine finds them with its tokenizer, also where they span several tokens.
   */
  stop?: string | readonly string[]
  /** Tokens that end generation, beside the config's eos_token_id, and are not part of the result. */
  stopTokenIds?: ArrayLike<number>
  /** Whether the config's eos_token_id is a token like any other. Default false. */
  ignoreEos?: boolean
  /** Generate at least so many tokens before a token or a text that ends generation; at most maxTokens. Default 0. */
  minTokens?: number
  /**
   * Least router probability with which a token runs another recursion, in [0, 1]; only of a model with an expert-choice router.
   * Default 0.5. Where training selects by threshold, scores count from the running threshold, so 0.5 is that threshold, and less
   * makes tokens run deeper.
   */
  routerThreshold?: number
  /**
   * Most recursions a token may run, from 1 to num_recursions. Default num_recursions, and nothing less with sharing
   * "sequence" or "middle_sequence".
   */
  maxRecursions?: number
  /**
   * How many of the most likely tokens to report at the position of each generated one, with their log-probabilities over
   * the whole vocabulary at temperature 1, whatever temperature, filters, penalties and biases are. From 0 (none, the default) to 20.
   */
  topLogprobs?: number
  /**
   * Reports the log-probability of each token of the prompt, and as many of the most likely tokens in its place, from 0 to 20.
   * Default: the prompt is not reported. Then its beginning may come from the prefix cache; reported tokens are computed.
   */
  promptLogprobs?: number
  /**
   * With `promptLogprobs`: the first token of the prompt to report, counted from 0. What comes before it may then come from the
   * prefix cache. From 1, the default, to the last one: the first token follows none.
   */
  promptLogprobsFrom?: number
  /**
   * Requests of a higher priority are served first. Those of a lower one that are under way may be interrupted for them,
   * and go on later with the same tokens. Equal ones are served in the order in which they came. Default 0.
   */
  priority?: number
  /** Ends generation at any moment, also within a prompt: after at most one step, with `finishReason: 'abort'`. */
  signal?: AbortSignal
}

const optionKeys = [
  'maxTokens',
  'temperature',
  'topK',
  'topP',
  'minP',
  'seed',
  'logitBias',
  'repetitionPenalty',
  'presencePenalty',
  'frequencyPenalty',
  'stop',
  'stopTokenIds',
  'ignoreEos',
  'minTokens',
  'routerThreshold',
  'maxRecursions',
  'topLogprobs',
  'promptLogprobs',
  'promptLogprobsFrom',
  'priority',
  'signal',
]

/**
 * @param promptLength 0: it is not known yet
 * @throws {MorError} INVALID_ARGUMENT or TOKEN_OUT_OF_RANGE (a stop token) with the value and what is allowed.
 */
export function resolveGenerateOptions(
  options: GenerateOptions,
  config: ResolvedConfig,
  promptLength: number,
): NativeGenerateParams {
  const check = Checker.of(options, 'generate')
  check.onlyKeys(optionKeys)
  check.signal()
  const maxTokens = check.integer('maxTokens', { min: check.has('promptLogprobs') ? 0 : 1 })
  const stop = stopTokens(check, config)
  const minTokens = check.integer('minTokens', { min: 0, max: maxTokens, fallback: 0 })
  if (minTokens > 0 && isWholeVocabulary(stop, config.vocab_size)) {
    const all = `every one of the ${config.vocab_size} tokens of the vocabulary ends the generation`
    check.fail(`minTokens is ${minTokens}, but ${all}, so that none may come first; leave some out of stopTokenIds`)
  }
  return {
    maxTokens: Math.min(maxTokens, config.max_position_embeddings - promptLength),
    temperature: check.float32('temperature', { min: 0, fallback: 1 }),
    topK: check.integer('topK', { min: 0, fallback: 0 }),
    topP: check.float32('topP', { above: 0, max: 1, fallback: 1 }),
    minP: check.number('minP', { min: 0, max: 1, fallback: 0 }),
    seed: check.integer('seed', { min: 0, max: Number.MAX_SAFE_INTEGER, fallback: randomSeed() }),
    logitBias: packLogitBias(check, config.vocab_size),
    repetitionPenalty: check.number('repetitionPenalty', { min: 0.01, max: 100, fallback: 1 }),
    presencePenalty: check.number('presencePenalty', { min: -2, max: 2, fallback: 0 }),
    frequencyPenalty: check.number('frequencyPenalty', { min: -2, max: 2, fallback: 0 }),
    stop,
    minTokens,
    ...resolveRouting(check, config),
    logprobs: true,
    topLogprobs: check.integer('topLogprobs', { min: 0, max: mostTopLogprobs, fallback: 0 }),
    promptLogprobs: check.has('promptLogprobs')
      ? check.integer('promptLogprobs', { min: 0, max: mostTopLogprobs })
      : -1,
    promptLogprobsFrom: check.integer('promptLogprobsFrom', {
      min: 1,
      max: Math.max(1, (promptLength || config.max_position_embeddings) - 1),
      fallback: 1,
    }),
    priority: check.integer('priority', { min: -(2 ** 31), fallback: 0 }),
  }
}

/** The two request-time knobs of routing; `maxRecursions` 0 stands for all. */
export function resolveRouting(
  check: Checker,
  config: ResolvedConfig,
): { routerThreshold: number; maxRecursions: number } {
  return {
    routerThreshold: check.has('routerThreshold') ? readRouterThreshold(check, 'routerThreshold', config) : 0.5,
    maxRecursions: check.has('maxRecursions') ? readMaxRecursions(check, 'maxRecursions', config) : 0,
  }
}

/** The least router probability of another recursion, from `key`. Fails where this model compares no probability with it. */
export function readRouterThreshold(check: Checker, key: string, { router }: Pick<ResolvedConfig, 'router'>): number {
  const threshold = check.number(key, { min: 0, max: 1 })
  if (router?.type !== 'expert_choice') {
    const kind = router === null ? 'no router' : `a router of type "${router.type}", which has no threshold`
    check.fail(`${key} is ${threshold}, but this model has ${kind}: leave ${key} out`)
  }
  return threshold
}

/** The most recursions a token may run, from `key`. Fails where a token of this model cannot run fewer than all. */
export function readMaxRecursions(
  check: Checker,
  key: string,
  { num_recursions: recursions, sharing }: Pick<ResolvedConfig, 'num_recursions' | 'sharing'>,
): number {
  const most = check.integer(key, { min: 1, max: recursions })
  if (most < recursions && !blockRecurs(sharing)) {
    check.fail(
      `${key} is ${most}, but with sharing "${sharing}" every token runs all ${recursions} recursions of a layer before ` +
        `the next layer: leave ${key} out`,
    )
  }
  return most
}

function stopTokens(check: Checker, { eos_token_id: end, vocab_size }: ResolvedConfig): Int32Array {
  const ids = check.has('stopTokenIds') ? readTokenIds(check, 'stopTokenIds', vocab_size) : []
  const ends = check.boolean('ignoreEos', false) ? [] : [end ?? []].flat()
  const all = new Int32Array(ends.length + ids.length)
  all.set(ends)
  all.set(ids, ends.length)
  return all
}

/** Whether every token of a vocabulary is among `ids`, which may also hold others. */
export function isWholeVocabulary(ids: Iterable<number>, vocabSize: number): boolean {
  const inside = [...ids].filter((id) => id >= 0 && id < vocabSize)
  return inside.length >= vocabSize && new Set(inside).size === vocabSize
}

/** The texts of `stop`, in a list that stays as it is. */
export function readStopStrings(options: GenerateOptions): readonly string[] {
  const { stop } = options
  const strings: unknown = typeof stop === 'string' ? [stop] : (stop ?? [])
  if (Array.isArray(strings) && strings.every((item) => typeof item === 'string' && item !== '')) return [...strings]
  throw new MorError(
    'INVALID_ARGUMENT',
    `generate: stop is ${show(stop)}; it must be a text or a list of texts, none of them empty`,
  )
}

/** The token ids under `key`. */
export function readTokenIds(check: Checker, key: string, vocabSize: number): Int32Array {
  const ids = check.object[key] as ArrayLike<number>
  if (!Array.isArray(ids) && !ArrayBuffer.isView(ids))
    check.fail(`${key} is ${show(ids)}; it must be a list of token ids`)
  return copyTokens(ids, new Int32Array(ids.length), 0, vocabSize, key)
}

/** The biases under `key`, by token id. */
export function readLogitBias(check: Checker, key: string, vocabSize: number): Record<number, number> {
  const biases = check.child(key)
  for (const id of Object.keys(biases.object)) {
    if (!/^(0|[1-9]\d*)$/.test(id) || Number(id) >= vocabSize) {
      const text = `${key} names the token ${show(id)}; the vocabulary has ids 0 to ${vocabSize - 1}`
      throw new MorError('TOKEN_OUT_OF_RANGE', text)
    }
    biases.number(id, { min: -100, max: 100 })
  }
  return biases.object as Record<number, number>
}

function packLogitBias(check: Checker, vocabSize: number): NativeGenerateParams['logitBias'] {
  const biases = check.has('logitBias') ? readLogitBias(check, 'logitBias', vocabSize) : {}
  return { tokens: Int32Array.from(Object.keys(biases), Number), values: Float32Array.from(Object.values(biases)) }
}

function randomSeed(): number {
  return Math.floor(Math.random() * 2 ** 32)
}
