// Configurations of models so small that their checkpoints are written in a moment.
import type { ModelConfig } from '../../lib/config.js'

export const vanilla: ModelConfig = {
  vocab_size: 16,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
}
export const mor: ModelConfig = {
  ...vanilla,
  num_hidden_layers: 5,
  num_recursions: 3,
  router: { type: 'expert_choice' },
}
