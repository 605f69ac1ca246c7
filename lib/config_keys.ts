// Which keys a config.json may have: those of a model, and the many that other programs write into it.
import { type Checker, type JsonObject, show } from './check.js'
import { suggestion } from './suggest.js'

/** The keys that say what a model is. */
const modelKeys = [
  'vocab_size',
  'hidden_size',
  'intermediate_size',
  'num_hidden_layers',
  'num_attention_heads',
  'num_key_value_heads',
  'head_dim',
  'qkv_bias',
  'qk_norm',
  'max_position_embeddings',
  'rope_theta',
  'rope_scaling',
  'rope_parameters',
  'rms_norm_eps',
  'tie_word_embeddings',
  'initializer_range',
  'bos_token_id',
  'eos_token_id',
  'model_type',
  'num_recursions',
  'sharing',
  'kv_cache',
  'router',
]

/**
 * Keys that change what a model computes and are not supported, each with the only value that is accepted, which changes
 * nothing. Where that is null, false, 0 and empty values are accepted too.
 */
const unsupported: Record<string, unknown> = {
  hidden_act: 'silu',
  is_causal: true,
  // Biases and norms.
  attention_bias: false,
  attention_out_bias: null,
  mlp_bias: false,
  bias: null,
  use_bias: null,
  use_qk_norm: null,
  qk_layernorm: null,
  // Positions.
  rope_interleaved: false,
  partial_rotary_factor: 1,
  rotary_pct: 1,
  alibi: null,
  use_mrope: null,
  no_rope_layers: null,
  no_rope_layer_interval: null,
  // Scales and soft caps.
  attention_multiplier: null,
  query_pre_attn_scalar: null,
  attn_logit_softcapping: null,
  final_logit_softcapping: null,
  attn_temperature_tuning: null,
  logits_scaling: 1,
  logit_scale: 1,
  residual_multiplier: 1,
  embedding_multiplier: 1,
  lm_head_multiplier: 1,
  scale_emb: 1,
  scale_depth: null,
  // Other kinds of layers.
  num_experts: null,
  num_local_experts: null,
  n_routed_experts: null,
  enable_moe_block: null,
  q_lora_rank: null,
  kv_lora_rank: null,
  num_kv_shared_layers: null,
  attention_chunk_size: null,
  parallel_attn: null,
  use_parallel_residual: null,
  is_encoder_decoder: null,
  add_cross_attention: null,
  pruned_heads: null,
  // Quantised weights.
  quantization_config: null,
  compression_config: null,
}

/** Keys of attention that sees a part of the context; see `checkWindow`. */
const windowKeys = ['sliding_window', 'use_sliding_window', 'max_window_layers', 'layer_types']

/** Keys that change nothing here: they say where a model comes from, or how other programs run it or sample from it. */
const meaningless = `
  architectures auto_map _name_or_path _commit_hash transformers_version transformers.js_config is_llama_config
  unsloth_version unsloth_fixed torch_dtype dtype use_bfloat16 torchscript attn_implementation _attn_implementation
  _attn_implementation_autoset use_flash_attn use_cache pretraining_tp chunk_size_feed_forward return_dict tf_legacy_loss
  is_decoder cross_attention_hidden_size tie_encoder_decoder output_attentions output_hidden_states output_scores
  return_dict_in_generate gradient_checkpointing attention_dropout attn_pdrop embd_pdrop resid_pdrop hidden_dropout
  tokenizer_class prefix pad_token_id unk_token_id sep_token_id decoder_start_token_id finetuning_task problem_type
  task_specific_params id2label label2id max_length min_length max_new_tokens model_max_length do_sample early_stopping
  num_beams num_beam_groups num_return_sequences diversity_penalty temperature top_k top_p typical_p length_penalty
  repetition_penalty exponential_decay_length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
  suppress_tokens begin_suppress_tokens forced_bos_token_id forced_eos_token_id remove_invalid_values
`
  .trim()
  .split(/\s+/)

export const knownKeys: ReadonlySet<string> = new Set([
  ...modelKeys,
  ...Object.keys(unsupported),
  ...windowKeys,
  ...meaningless,
])

/** Fails if a key asks for something that is not supported. */
export function checkSupported(check: Checker): void {
  for (const [key, supported] of Object.entries(unsupported)) {
    const value = check.object[key] ?? supported
    if (value === supported || (supported === null && asksForNothing(value))) continue
    check.fail(
      `${key} is ${show(value)}; only ${show(supported)} is supported, and the model would be wrong without it`,
    )
  }
}

function asksForNothing(value: unknown): boolean {
  return !value || (typeof value === 'object' && Object.keys(value).length === 0)
}

/** Fails if a layer does not attend to all of a context of `length` tokens. */
export function checkWindow(check: Checker, length: number): void {
  const { layer_types: types, use_sliding_window: used = true } = check.object
  if (check.has('layer_types') && !(Array.isArray(types) && types.every((type) => type === 'full_attention'))) {
    check.fail(`layer_types is ${show(types)}; only "full_attention" is supported, for every layer`)
  }
  if (used !== false && check.has('sliding_window')) {
    const window = check.integer('sliding_window', { min: 1 })
    if (window >= length) return
    check.fail(
      `sliding_window is ${window}, shorter than max_position_embeddings ${length}; attention to a part of the context ` +
        'is not supported: shorten the context, or set sliding_window to null if the model was trained without it',
    )
  }
}

const warnedOf = new Set<string>()

/** Returns `file` without its unknown keys, and warns of those whose value asks for something, of each once in a process. */
export function withoutUnknownKeys(file: JsonObject, where: string): JsonObject {
  const unknown = Object.keys(file).filter((key) => !knownKeys.has(key))
  const news = unknown.filter((key) => !asksForNothing(file[key]) && !warnedOf.has(key))
  for (const key of news) warnedOf.add(key)
  if (news.length > 0) {
    const names = news.map((key) => `"${key}"${suggestion(key, modelKeys)}`).join(', ')
    process.emitWarning(`${where}: unknown keys are ignored: ${names}`, { code: 'MOR_UNKNOWN_CONFIG_KEY' })
  }
  return Object.fromEntries(Object.entries(file).filter(([key]) => knownKeys.has(key)))
}
