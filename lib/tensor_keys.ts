// Which keys of a configuration say that a tensor is there and what shape it has, for messages about tensors that do not fit.
import { show } from './check.js'
import type { ResolvedConfig } from './config.js'

/** By the name of a tensor. */
const keysByTensor: [RegExp, (keyof ResolvedConfig)[]][] = [
  [/^model\.layers\./, ['num_hidden_layers', 'num_recursions']],
  [/^lm_head\.weight$/, ['tie_word_embeddings', 'vocab_size', 'hidden_size']],
  [/embed_tokens\.weight$/, ['vocab_size', 'hidden_size']],
  [/[qo]_proj\.weight$/, ['num_attention_heads', 'head_dim', 'hidden_size']],
  [/[kv]_proj\.weight$/, ['num_key_value_heads', 'head_dim', 'hidden_size']],
  [/(gate|up|down)_proj\.weight$/, ['intermediate_size', 'hidden_size']],
  [/_proj\.bias$/, ['qkv_bias']],
  [/[qk]_norm\.weight$/, ['qk_norm', 'head_dim']],
  [/router/, ['router', 'num_recursions']],
]

/** The names of tensors that are not there, that should not be, and that have another shape or dtype. */
export interface TensorProblems {
  missing: readonly string[]
  unexpected: readonly string[]
  unfit: readonly string[]
}

/**
 * The values that the tensors contradict.
 * @param description where these values are, as messages name it: config.json, say
 */
export function explainByConfig(
  { missing, unexpected, unfit }: TensorProblems,
  config: ResolvedConfig,
  description: string,
): string {
  const names = [...missing, ...unexpected, ...unfit]
  const biases = unexpected.some((name) => name.endsWith('.bias'))
    ? `; by its ${description} the model has no such biases`
    : ''
  const concerned = keysByTensor.filter(([pattern]) => names.some((name) => pattern.test(name)))
  const keys = new Set(concerned.flatMap(([, ofPattern]) => ofPattern))
  if (keys.size === 0) return biases
  return `${biases}; by its ${description} ${[...keys].map((key) => `${key} is ${show(config[key])}`).join(', ')}`
}
