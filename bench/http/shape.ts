// The model of the HTTP bench: small, so that what HTTP adds is not lost in what the model takes.
import type { ModelConfig } from '../../lib/index.js'

export const modelName = 'bench'

export const config: ModelConfig = {
  vocab_size: 257,
  hidden_size: 128,
  intermediate_size: 352,
  num_hidden_layers: 5,
  num_attention_heads: 4,
  max_position_embeddings: 512,
  num_recursions: 3,
  router: { type: 'expert_choice' },
}

/** Of a stream of chat: text that is not empty. */
export const firstText = /"content":"[^"]/

export const template = '{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>'
