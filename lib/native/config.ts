// The configuration of a model as the addon takes it.

export interface NativeRouterConfig {
  type: 'expert_choice' | 'token_choice'
  activation: 'sigmoid' | 'tanh' | 'softmax'
  architecture: 'linear' | 'mlp'
  alpha: number
  gated: 'output' | 'update'
  /** One fraction per recursion; empty = the integer rule of docs/model.md section 3. */
  capacities: number[]
  auxiliaryLossCoefficient: number
  zLossCoefficient: number
  balancingLossCoefficient: number
  balancing: 'loss' | 'loss_free'
  auxiliaryRouter: boolean
  capacityWarmupSteps: number
  selection: 'topk' | 'threshold'
  thresholdMomentum: number
}

export type NativeRopeScaling =
  | { type: 'linear'; factor: number }
  | {
      type: 'llama3'
      factor: number
      lowFreqFactor: number
      highFreqFactor: number
      originalMaxPositionEmbeddings: number
    }

/** Complete and validated configuration. */
export interface NativeConfig {
  vocabSize: number
  hiddenSize: number
  intermediateSize: number
  numHiddenLayers: number
  numAttentionHeads: number
  numKeyValueHeads: number
  headDim: number
  qkvBias: boolean
  qkNorm: boolean
  maxPositionEmbeddings: number
  ropeTheta: number
  ropeScaling: NativeRopeScaling | null
  rmsNormEps: number
  tieWordEmbeddings: boolean
  initializerRange: number
  numRecursions: number
  sharing: 'cycle' | 'sequence' | 'middle_cycle' | 'middle_sequence'
  kvCache: 'recursion_wise' | 'shared' | 'hybrid'
  router: NativeRouterConfig | null
}
