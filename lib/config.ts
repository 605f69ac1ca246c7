// What a model is: the keys of config.json, their defaults, and every rule that binds them together.
import {
  architectureOf,
  architectures,
  describeLayer,
  type ModelType,
  modelTypes,
  modelTypesOf,
  plainLayer,
  sameLayers,
} from './architectures.js'
import { Checker, show } from './check.js'
import { checkContext, checkSupported, checkWindow, knownKeys } from './config_keys.js'
import { type RopeScaling, resolveRope } from './config_rope.js'
import { type ResolvedRouterConfig, type RouterConfig, resolveRouter } from './config_router.js'

export const sharings = ['cycle', 'sequence', 'middle_cycle', 'middle_sequence'] as const
export const kvCaches = ['recursion_wise', 'shared', 'hybrid'] as const

/** How unique layers are laid out over the effective depth (paper, section 2.1, "Parameter-sharing strategies"). */
export type Sharing = (typeof sharings)[number]
/** Which keys and values a token at a deeper recursion attends to (paper, section 2.2.2, "KV caching"). */
export type KvCache = (typeof kvCaches)[number]

/**
 * A model as a user describes it, and config.json under the same keys. There are three kinds: vanilla (`num_recursions` 1),
 * recursive (more than one, no router) and Mixture-of-Recursions (more than one, with a router).
 */
export interface ModelConfig {
  vocab_size: number
  hidden_size: number
  /** Width of the SwiGLU feed-forward. */
  intermediate_size: number
  /** Effective (unrolled) depth. */
  num_hidden_layers: number
  num_attention_heads: number
  /** Default: num_attention_heads. */
  num_key_value_heads?: number | null
  /** Default: hidden_size / num_attention_heads. */
  head_dim?: number | null
  /** Whether the q, k and v projections have a bias, as in Qwen2. Default: as `model_type` has it, else false. */
  qkv_bias?: boolean
  /**
   * Whether every query head and key head passes an RMSNorm before rotary embedding, as in Qwen3. Default: as `model_type`
   * has it, else false.
   */
  qk_norm?: boolean
  /** Context length in tokens. Default 2048. */
  max_position_embeddings?: number
  /** Default 10000. */
  rope_theta?: number
  /** Default null: no scaling. */
  rope_scaling?: RopeScaling | null
  /** Default 1e-5. */
  rms_norm_eps?: number
  /** Whether the output projection is the embedding. Default true. */
  tie_word_embeddings?: boolean
  /** Standard deviation of the normal initialisation. Default 0.02. */
  initializer_range?: number
  bos_token_id?: number | null
  eos_token_id?: number | readonly number[] | null
  /** Follows from the other keys (see `architectures.ts`); where it is given it must fit them. */
  model_type?: ModelType
  /** Default 1. */
  num_recursions?: number
  /** Default "middle_cycle". */
  sharing?: Sharing
  /** Default "recursion_wise". */
  kv_cache?: KvCache
  router?: RouterConfig | null
}

/** A complete configuration in which everything has been checked; only `resolveConfig` makes one. */
export interface ResolvedConfig {
  readonly vocab_size: number
  readonly hidden_size: number
  readonly intermediate_size: number
  readonly num_hidden_layers: number
  readonly num_attention_heads: number
  readonly num_key_value_heads: number
  readonly head_dim: number
  readonly qkv_bias: boolean
  readonly qk_norm: boolean
  readonly max_position_embeddings: number
  readonly rope_theta: number
  readonly rope_scaling: Readonly<RopeScaling> | null
  readonly rms_norm_eps: number
  readonly tie_word_embeddings: boolean
  readonly initializer_range: number
  readonly bos_token_id: number | null
  readonly eos_token_id: number | readonly number[] | null
  readonly num_recursions: number
  /** Always "cycle" for vanilla, where every strategy is the same. */
  readonly sharing: Sharing
  readonly kv_cache: KvCache
  readonly router: ResolvedRouterConfig | null
}

/**
 * Fills in the defaults and checks every key and every combination.
 * @param where names the source in messages, e.g. the path of a config.json.
 * @throws {MorError} INVALID_CONFIG with the key, its value and what is allowed.
 */
export function resolveConfig(config: unknown, where = 'config'): ResolvedConfig {
  const check = Checker.of(config, where, 'INVALID_CONFIG')
  const modelType = check.has('model_type') ? check.choice('model_type', modelTypes) : null
  check.onlyKeys(knownKeys)
  checkSupported(check)
  const layer = architectureOf(modelType)?.layer ?? plainLayer

  const vocabSize = check.integer('vocab_size', { min: 1 })
  const hiddenSize = check.integer('hidden_size', { min: 1, max: 2 ** 20 })
  const attentionHeads = check.integer('num_attention_heads', { min: 1, max: 2 ** 16 })
  const recursions = check.integer('num_recursions', { min: 1, max: 255, fallback: 1 })
  const requestedSharing = check.choice('sharing', sharings, recursions === 1 ? 'cycle' : 'middle_cycle')
  const sharing = recursions === 1 ? 'cycle' : requestedSharing
  const kvCache = check.choice('kv_cache', kvCaches, 'recursion_wise')
  const router = check.has('router') ? resolveRouter(check.child('router'), recursions) : null

  const resolved: ResolvedConfig = {
    vocab_size: vocabSize,
    hidden_size: hiddenSize,
    intermediate_size: check.integer('intermediate_size', { min: 1, max: 2 ** 24 }),
    num_hidden_layers: check.integer('num_hidden_layers', { min: 1, max: 2 ** 16 }),
    num_attention_heads: attentionHeads,
    num_key_value_heads: keyValueHeads(check, attentionHeads),
    head_dim: headDim(check, hiddenSize, attentionHeads),
    qkv_bias: check.boolean('qkv_bias', layer.qkv_bias),
    qk_norm: check.boolean('qk_norm', layer.qk_norm),
    max_position_embeddings: check.integer('max_position_embeddings', { min: 1, fallback: 2048 }),
    ...resolveRope(check),
    rms_norm_eps: check.float32('rms_norm_eps', { above: 0, below: 1, fallback: 1e-5 }),
    tie_word_embeddings: check.boolean('tie_word_embeddings', true),
    initializer_range: check.float32('initializer_range', { above: 0, fallback: 0.02 }),
    bos_token_id: check.has('bos_token_id') ? tokenId(check, 'bos_token_id', vocabSize) : null,
    eos_token_id: endTokenIds(check, vocabSize),
    num_recursions: recursions,
    sharing,
    kv_cache: kvCache,
    router,
  }
  checkWindow(check, resolved.max_position_embeddings)
  checkContext(check, resolved.max_position_embeddings)
  checkDepth(check, resolved)
  checkCombinations(check, resolved)
  if (modelType !== null) checkModelType(check, resolved, modelType)
  checkArchitectures(check, resolved)
  return resolved
}

/** vanilla: no layer is shared; recursive: layers are shared and every token runs all of them; mor: a router decides. */
export function modelKind(config: ResolvedConfig): 'vanilla' | 'recursive' | 'mor' {
  if (config.num_recursions === 1) return 'vanilla'
  return config.router === null ? 'recursive' : 'mor'
}

/** Layers before and after the shared block: 2 for the middle strategies, else 0. */
export function unsharedLayers(sharing: Sharing): 0 | 2 {
  return sharing.startsWith('middle_') ? 2 : 0
}

/**
 * Whether a recursion runs the shared block as a whole, so that a token can end after fewer. With the other strategies
 * each layer runs all its recursions before the next layer begins.
 */
export function blockRecurs(sharing: Sharing): boolean {
  return sharing === 'cycle' || sharing === 'middle_cycle'
}

function keyValueHeads(check: Checker, attentionHeads: number): number {
  const heads = check.integer('num_key_value_heads', { min: 1, fallback: attentionHeads })
  if (attentionHeads % heads !== 0) {
    check.fail(`num_attention_heads ${attentionHeads} is not a multiple of num_key_value_heads ${heads}`)
  }
  return heads
}

function headDim(check: Checker, hiddenSize: number, attentionHeads: number): number {
  if (!check.has('head_dim') && hiddenSize % attentionHeads !== 0) {
    check.fail(
      `hidden_size ${hiddenSize} is not a multiple of num_attention_heads ${attentionHeads}; set head_dim or change one of them`,
    )
  }
  const dim = check.integer('head_dim', { min: 2, max: 1024, fallback: hiddenSize / attentionHeads })
  if (dim % 2 !== 0) check.fail(`head_dim is ${dim}; rotary embedding needs an even one`)
  return dim
}

export function tokenId(check: Checker, key: string, vocabSize: number): number {
  return check.integer(key, { min: 0, max: vocabSize - 1 })
}

export function endTokenIds(check: Checker, vocabSize: number): number | number[] | null {
  if (!check.has('eos_token_id')) return null
  const ids = check.object.eos_token_id
  if (!Array.isArray(ids)) return tokenId(check, 'eos_token_id', vocabSize)
  for (const id of ids) {
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
      check.fail(`eos_token_id holds ${show(id)}; every id must be an integer from 0 to ${vocabSize - 1}`)
    }
  }
  return [...ids]
}

function checkDepth(check: Checker, { num_hidden_layers: depth, num_recursions: recursions, sharing }: ResolvedConfig) {
  const unshared = unsharedLayers(sharing)
  const shared = depth - unshared
  if (shared >= recursions && shared % recursions === 0) return
  const lower = Math.floor(shared / recursions) * recursions + unshared
  const upper = Math.max(1, Math.ceil(shared / recursions)) * recursions + unshared
  const nearest = lower >= recursions + unshared ? `${lower} or ${upper}` : `${upper}`
  const rule = unshared === 0 ? 'num_hidden_layers' : `num_hidden_layers - ${unshared}`
  check.fail(
    `num_hidden_layers ${depth} does not divide: with num_recursions ${recursions} and sharing "${sharing}", ` +
      `${rule} must be a positive multiple of ${recursions}; the nearest valid num_hidden_layers: ${nearest}`,
  )
}

function checkCombinations(check: Checker, config: ResolvedConfig): void {
  const { num_recursions: recursions, sharing, kv_cache: kvCache, router } = config
  const recurs = blockRecurs(sharing)
  if (recursions === 1 && kvCache !== 'recursion_wise') {
    check.fail(`kv_cache "${kvCache}" needs num_recursions above 1, and it is 1`)
  }
  if (kvCache !== 'recursion_wise' && !recurs) {
    check.fail(`kv_cache "${kvCache}" needs sharing "cycle" or "middle_cycle", and it is "${sharing}"`)
  }
  if (kvCache === 'hybrid' && router?.type !== 'expert_choice') {
    check.fail(`kv_cache "hybrid" needs router.type "expert_choice", and it is ${show(router?.type ?? null)}`)
  }
  if (router !== null && !recurs) {
    check.fail(`a router needs sharing "cycle" or "middle_cycle", and it is "${sharing}"`)
  }
}

/** A class of Hugging Face's in `architectures` must not have other layers than the rest says. */
function checkArchitectures(check: Checker, config: ResolvedConfig): void {
  const named = [check.object.architectures].flat()
  for (const [type, { className, layer }] of Object.entries(architectures)) {
    if (!named.includes(className)) continue
    if (sameLayers(layer, config)) continue
    check.fail(
      `architectures holds "${className}", whose model_type is "${type}", but model_type is ${show(check.object.model_type)}, ` +
        `${describeLayer(config)}: correct the one that is wrong`,
    )
  }
}

function checkModelType(check: Checker, config: ResolvedConfig, modelType: ModelType): void {
  const fitting = modelTypesOf(config)
  if (fitting.includes(modelType)) return
  check.fail(
    `model_type is "${modelType}" but num_recursions is ${config.num_recursions}, ${describeLayer(config)}: ` +
      `leave model_type out or make it ${fitting.map(show).join(' or ')}`,
  )
}
