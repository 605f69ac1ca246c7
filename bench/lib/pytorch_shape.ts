// A model's shape under the names that the PyTorch rivals in baselines/ use.
import { type ModelConfig, resolveConfig } from '../../lib/config.js'

export function pytorchShape(model: ModelConfig): Record<string, number> {
  const config = resolveConfig(model)
  return {
    hidden: config.hidden_size,
    intermediate: config.intermediate_size,
    heads: config.num_attention_heads,
    kvHeads: config.num_key_value_heads,
    headDim: config.head_dim,
    layers: config.num_hidden_layers,
    vocabulary: config.vocab_size,
    recursions: config.num_recursions,
    rmsNormEps: config.rms_norm_eps,
    ropeTheta: config.rope_theta,
  }
}
