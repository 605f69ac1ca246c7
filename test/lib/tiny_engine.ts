// The configuration of a model for engines on the stand-in addon, which count: after token 10 comes 11. Token 9 ends.
import type { ModelConfig } from '../../lib/config.js'
import type { GeneratedToken } from '../../lib/generation.js'

export const config: ModelConfig = {
  vocab_size: 32,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  max_position_embeddings: 16,
  eos_token_id: 9,
  num_recursions: 3,
  router: { type: 'expert_choice' },
}

export async function collect(generation: AsyncIterable<GeneratedToken>): Promise<number[]> {
  const tokens: number[] = []
  for await (const { token } of generation) tokens.push(token)
  return tokens
}
