// The passes of Model that return numbers of a batch: logits, log-probabilities and hidden states.
import { Checker, show } from './check.js'
import type { ResolvedConfig } from './config.js'
import { wrapNativeAsync } from './errors.js'
import type { NativeForwardOptions, NativeModel, Routing } from './native/model.js'
import { resolveRouting } from './sampling.js'
import { packRows, packTargets } from './tokens.js'

export interface PassOptions {
  /** 'topk': not causal, as in training unless that selects by threshold; 'threshold' (default): causal, as in generation. */
  routing?: Routing
  /** As in generation: only of a model with an expert-choice router. Default 0.5. Not with 'topk'. */
  routerThreshold?: number
  /** As in generation. Default num_recursions. */
  maxRecursions?: number
  signal?: AbortSignal
}

export interface ForwardOptions extends PassOptions {
  /** The positions of every row whose logits are wanted, from 0: those listed, or the last one. Default 'all'. */
  positions?: 'all' | 'last' | ArrayLike<number>
}

export interface HiddenStatesOptions extends PassOptions {
  /**
   * Effective layers, none of them twice, from 0 (the embedding) to num_hidden_layers (the input of the last norm): the
   * state before each is returned. Default: all of them.
   */
  layers?: ArrayLike<number>
}

export interface PassResult {
  /** [batch * length], recursions that each token ran: 0..N. */
  depths: Uint8Array
}

export interface ForwardResult extends PassResult {
  /** Row-major, of `shape`. */
  logits: Float32Array
  shape: [batch: number, positions: number, vocab: number]
}

export interface LogprobsResult extends PassResult {
  /** Row-major, of `shape`; in nats, at most 0. 0 where the target is -1. */
  logprobs: Float32Array
  shape: [batch: number, length: number]
}

export interface HiddenStatesResult extends PassResult {
  /** Row-major, of `shape`. */
  hiddenStates: Float32Array
  shape: [layers: number, batch: number, length: number, hidden: number]
}

type Rows = readonly ArrayLike<number>[]

const passKeys = ['routing', 'routerThreshold', 'maxRecursions', 'signal']

/** Model.forward. */
export async function forward(
  native: NativeModel,
  config: ResolvedConfig,
  tokens: Rows,
  options: ForwardOptions,
): Promise<ForwardResult> {
  const check = Checker.of(options, 'forward')
  const signal = check.signal()
  check.onlyKeys([...passKeys, 'positions'])
  const passOptions = resolvePassOptions(check, config)
  const { tokens: packed, batch, columns: length } = packRows(tokens, config, 0)
  const positions = readPositions(check, length)
  const { logits, depths } = await wrapNativeAsync(
    () => native.forward(packed, batch, length, { ...passOptions, ...(positions && { positions }) }, signal),
    signal,
  )
  return { logits, depths, shape: [batch, positions?.length ?? length, config.vocab_size] }
}

/** Model.logprobs. */
export async function logprobs(
  native: NativeModel,
  config: ResolvedConfig,
  tokens: Rows,
  targets: Rows,
  options: PassOptions,
): Promise<LogprobsResult> {
  const check = Checker.of(options, 'logprobs')
  const signal = check.signal()
  check.onlyKeys(passKeys)
  const passOptions = resolvePassOptions(check, config)
  const { tokens: packed, batch, columns: length } = packRows(tokens, config, 0)
  const packedTargets = packTargets(targets, config, batch, length)
  const { logprobs: wanted, depths } = await wrapNativeAsync(
    () => native.logprobs(packed, batch, length, packedTargets, passOptions, signal),
    signal,
  )
  let next = 0
  const all = Float32Array.from(packedTargets, (target) => (target < 0 ? 0 : wanted[next++]!))
  return { logprobs: all, depths, shape: [batch, length] }
}

/** Model.hiddenStates. */
export async function hiddenStates(
  native: NativeModel,
  config: ResolvedConfig,
  tokens: Rows,
  options: HiddenStatesOptions,
): Promise<HiddenStatesResult> {
  const check = Checker.of(options, 'hiddenStates')
  const signal = check.signal()
  check.onlyKeys([...passKeys, 'layers'])
  const passOptions = resolvePassOptions(check, config)
  const last = config.num_hidden_layers
  const layers = check.has('layers')
    ? readIndices(
        check,
        'layers',
        last,
        `this model has layers 0 to ${last - 1}, and ${last} is the input of the last norm`,
      )
    : Int32Array.from({ length: last + 1 }, (_, layer) => layer)
  const { tokens: packed, batch, columns: length } = packRows(tokens, config, 0)
  const result = await wrapNativeAsync(
    () => native.hiddenStates(packed, batch, length, layers, passOptions, signal),
    signal,
  )
  return { ...result, shape: [layers.length, batch, length, config.hidden_size] }
}

/** Of PassOptions those that say how tokens are routed. `maxRecursions` 0 stands for all. */
export function resolvePassOptions(check: Checker, config: ResolvedConfig): NativeForwardOptions {
  const routing = check.choice('routing', ['topk', 'threshold'], 'threshold')
  const knobs = resolveRouting(check, config)
  if (routing === 'topk' && check.has('routerThreshold')) {
    check.fail(
      `routerThreshold is ${show(check.object.routerThreshold)}, but routing is "topk", which has no threshold: leave routerThreshold ` +
        'out, or make routing "threshold"',
    )
  }
  return { routing, ...knobs }
}

/** Undefined: all positions. */
function readPositions(check: Checker, length: number): Int32Array | undefined {
  if (!check.has('positions')) return undefined
  if (typeof check.object.positions === 'string') {
    return check.choice('positions', ['all', 'last']) === 'all' ? undefined : Int32Array.of(length - 1)
  }
  return readIndices(check, 'positions', length - 1, `the rows have positions 0 to ${length - 1}`)
}

/** The list of different integers from 0 to `max` under `key`. */
function readIndices(check: Checker, key: string, max: number, allowed: string): Int32Array {
  const list = check.object[key] as ArrayLike<number>
  if (!Array.isArray(list) && !ArrayBuffer.isView(list))
    check.fail(`${key} is ${show(list)}; it must be a list of integers`)
  const seen = new Set<number>()
  for (let i = 0; i < list.length; i++) {
    const value = list[i]!
    if (!(Number.isInteger(value) && value >= 0 && value <= max)) check.fail(`${key} has ${show(value)}; ${allowed}`)
    if (seen.has(value)) check.fail(`${key} has ${value} twice; list it once`)
    seen.add(value)
  }
  if (seen.size === 0) check.fail(`${key} is empty; list at least one, or leave ${key} out`)
  return Int32Array.from(list)
}
