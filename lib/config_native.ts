// Translates a resolved configuration into the addon's names.
import type { ResolvedConfig } from './config.js'
import type { RopeScaling } from './config_rope.js'
import type { ResolvedRouterConfig } from './config_router.js'
import type { NativeConfig, NativeRopeScaling, NativeRouterConfig } from './native/config.js'

export function toNativeConfig(config: ResolvedConfig): NativeConfig {
  return {
    vocabSize: config.vocab_size,
    hiddenSize: config.hidden_size,
    intermediateSize: config.intermediate_size,
    numHiddenLayers: config.num_hidden_layers,
    numAttentionHeads: config.num_attention_heads,
    numKeyValueHeads: config.num_key_value_heads,
    headDim: config.head_dim,
    qkvBias: config.qkv_bias,
    qkNorm: config.qk_norm,
    maxPositionEmbeddings: config.max_position_embeddings,
    ropeTheta: config.rope_theta,
    ropeScaling: config.rope_scaling === null ? null : toNativeRopeScaling(config.rope_scaling),
    rmsNormEps: config.rms_norm_eps,
    tieWordEmbeddings: config.tie_word_embeddings,
    initializerRange: config.initializer_range,
    numRecursions: config.num_recursions,
    sharing: config.sharing,
    kvCache: config.kv_cache,
    router: config.router === null ? null : toNativeRouter(config.router),
  }
}

function toNativeRopeScaling(scaling: RopeScaling): NativeRopeScaling {
  if (scaling.rope_type === 'linear') return { type: 'linear', factor: scaling.factor }
  return {
    type: 'llama3',
    factor: scaling.factor,
    lowFreqFactor: scaling.low_freq_factor,
    highFreqFactor: scaling.high_freq_factor,
    originalMaxPositionEmbeddings: scaling.original_max_position_embeddings,
  }
}

/** The addon's router has the keys of both kinds; those of the other kind get values that switch them off. */
function toNativeRouter(router: ResolvedRouterConfig): NativeRouterConfig {
  const common = {
    activation: router.activation,
    architecture: router.architecture,
    alpha: router.alpha,
    gated: router.gated,
    zLossCoefficient: router.z_loss_coefficient,
  }
  if (router.type === 'expert_choice') {
    return {
      ...common,
      type: 'expert_choice',
      capacities: [...(router.capacities ?? [])],
      auxiliaryLossCoefficient: router.auxiliary_loss_coefficient,
      auxiliaryRouter: router.auxiliary_router,
      capacityWarmupSteps: router.capacity_warmup_steps,
      selection: router.selection,
      thresholdMomentum: router.threshold_momentum ?? 0,
      balancing: 'loss',
      balancingLossCoefficient: 0,
    }
  }
  return {
    ...common,
    type: 'token_choice',
    capacities: [],
    auxiliaryLossCoefficient: 0,
    auxiliaryRouter: false,
    capacityWarmupSteps: 0,
    selection: 'topk',
    thresholdMomentum: 0,
    balancing: router.balancing,
    balancingLossCoefficient: router.balancing_loss_coefficient,
  }
}
