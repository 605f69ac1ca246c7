// The small model of the tests of models and trainers, and what trains it.
import type { ModelConfig } from '../../lib/config.js'
import type { TrainerOptions } from '../../lib/trainer_options.js'

export const config: ModelConfig = {
  vocab_size: 16,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  max_position_embeddings: 8,
  num_recursions: 3,
  router: { type: 'expert_choice' },
}
export const options: TrainerOptions = { learningRate: 0.01 }
export const batch = [Int32Array.of(1, 2, 3, 4), Int32Array.of(5, 6, 7, 8)]
