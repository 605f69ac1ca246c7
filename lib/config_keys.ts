// Which keys a config.json may have: those of a model, and the many that other programs write into it.
import { type Checker, type JsonObject, show } from './check.js'
import { suggestion } from './suggest.js'

const words = (text: string) => text.trim().split(/\s+/)

/** The keys that say what a model is. */
const modelKeys = words(`
  vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim qkv_bias qk_norm
  max_position_embeddings rope_theta rope_scaling rope_parameters rms_norm_eps tie_word_embeddings initializer_range
  bos_token_id eos_token_id model_type num_recursions sharing kv_cache router
`)

/**
 * Keys that ask for what is not supported (biases, positions, scales, experts, quantised weights, …) unless they are left
 * out, null, false, 0 or empty.
 */
const unsupportedKeys = words(`
  attention_out_bias bias use_bias use_qk_norm qk_layernorm alibi use_mrope no_rope_layers no_rope_layer_interval
  attention_multiplier query_pre_attn_scalar attn_logit_softcapping final_logit_softcapping attn_temperature_tuning scale_depth
  num_experts num_local_experts n_routed_experts enable_moe_block q_lora_rank kv_lora_rank num_kv_shared_layers
  attention_chunk_size parallel_attn use_parallel_residual is_encoder_decoder add_cross_attention pruned_heads
  quantization_config compression_config
`)

/** Keys of which one value is supported: that of a model of this family. "swish" is another name of "silu". */
const fixedKeys: Record<string, unknown> = {
  hidden_act: 'silu',
  hidden_activation: 'silu',
  activation_function: 'silu',
  is_causal: true,
  attention_bias: false,
  mlp_bias: false,
  rope_interleaved: false,
  partial_rotary_factor: 1,
  rotary_pct: 1,
  logits_scaling: 1,
  logit_scale: 1,
  residual_multiplier: 1,
  embedding_multiplier: 1,
  lm_head_multiplier: 1,
  scale_emb: 1,
}

/** Keys of attention that sees a part of the context; see `checkWindow`. */
const windowKeys = words('sliding_window use_sliding_window max_window_layers layer_types')

/** Keys with which other programs name the context, beside `max_position_embeddings`; see `checkContext`. */
const contextKeys = words(
  'max_sequence_length max_seq_length max_seq_len seq_length n_ctx n_positions model_max_length',
)

/** Keys that change nothing here: they say where a model comes from, or how other programs run it or sample from it. */
const meaninglessKeys = words(`
  architectures auto_map _name_or_path _commit_hash transformers_version transformers.js_config is_llama_config
  unsloth_version unsloth_fixed torch_dtype dtype use_bfloat16 torchscript attn_implementation _attn_implementation
  _attn_implementation_autoset _attn_implementation_internal _flash_attn_2_enabled use_flash_attn use_cache pretraining_tp
  chunk_size_feed_forward return_dict tf_legacy_loss is_decoder cross_attention_hidden_size tie_encoder_decoder
  output_attentions output_hidden_states output_scores
  return_dict_in_generate gradient_checkpointing attention_dropout attn_pdrop embd_pdrop resid_pdrop hidden_dropout
  tokenizer_class bos_token eos_token pad_token unk_token padding_side prefix pad_token_id unk_token_id sep_token_id
  decoder_start_token_id finetuning_task problem_type
  task_specific_params id2label label2id max_length min_length max_new_tokens do_sample early_stopping
  num_beams num_beam_groups num_return_sequences diversity_penalty temperature top_k top_p typical_p length_penalty
  repetition_penalty exponential_decay_length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
  suppress_tokens begin_suppress_tokens forced_bos_token_id forced_eos_token_id remove_invalid_values
`)

export const knownKeys: ReadonlySet<string> = new Set([
  ...modelKeys,
  ...unsupportedKeys,
  ...Object.keys(fixedKeys),
  ...windowKeys,
  ...contextKeys,
  ...meaninglessKeys,
])

/** Fails if a key asks for something that is not supported. */
export function checkSupported(check: Checker): void {
  for (const key of unsupportedKeys) {
    if (!asksForNothing(check.object[key])) refuse(check, key, null)
  }
  for (const [key, value] of Object.entries(fixedKeys)) {
    const found = check.object[key] === 'swish' ? 'silu' : check.object[key]
    const same = found === value || (value === false && asksForNothing(found))
    if (check.has(key) && !same) refuse(check, key, value)
  }
}

function refuse(check: Checker, key: string, supported: unknown): never {
  const [found, only] = [show(check.object[key]), show(supported)]
  return check.fail(`${key} is ${found}; only ${only} is supported, and the model would be wrong without it`)
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

/** Warns where a key of another program names another context than `max_position_embeddings`, which counts. */
export function checkContext(check: Checker, length: number): void {
  const others = contextKeys.filter((key) => {
    const said = check.object[key]
    // A tokenizer without a limit says 1e30.
    return typeof said === 'number' && said < 2 ** 31 && said !== length
  })
  if (others.length === 0) return
  const said = others.map((key) => `${key} is ${show(check.object[key])}`).join(', ')
  check.warn(`${said}, but max_position_embeddings is ${length}, which counts`)
}

const warnedOf = new Set<string>()

/**
 * Returns `file` without its unknown keys, and warns of those whose value asks for something, of each once in a process. A value
 * of false or 0 asks for something where the key may be meant for a known one.
 */
export function withoutUnknownKeys(file: JsonObject, where: string): JsonObject {
  const unknown = Object.keys(file).filter((key) => !knownKeys.has(key))
  const asks = (key: string) => !asksForNothing(file[key]) || (file[key] !== null && suggestion(key, modelKeys) !== '')
  const news = unknown.filter((key) => asks(key) && !warnedOf.has(key))
  for (const key of news) warnedOf.add(key)
  if (news.length > 0) {
    const names = news.map((key) => `"${key}"${suggestion(key, modelKeys)}`).join(', ')
    process.emitWarning(`${where}: unknown keys are ignored: ${names}`, { code: 'MOR_UNKNOWN_CONFIG_KEY' })
  }
  return Object.fromEntries(Object.entries(file).filter(([key]) => knownKeys.has(key)))
}
