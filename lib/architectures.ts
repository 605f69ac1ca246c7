// The model types of Hugging Face whose config.json describes a model of this package. A new one is one entry here.

/** How the layers of a vanilla model differ between architectures. */
export interface LayerTraits {
  /** Whether the q, k and v projections have a bias. The output projection has none. */
  qkv_bias: boolean
  /** Whether every query head and key head passes an RMSNorm of its own before rotary embedding. */
  qk_norm: boolean
}

export interface Architecture {
  /** The class that Hugging Face loads such a folder with. */
  className: string
  layer: LayerTraits
  /** What its config.json means by a key that it leaves out, where `ModelConfig` means something else. */
  defaults: Readonly<Record<string, unknown>>
}

const common = { rms_norm_eps: 1e-6, tie_word_embeddings: false }
const sentencePiece = { ...common, bos_token_id: 1, eos_token_id: 2 }
/** What a layer has where nothing says otherwise. */
export const plainLayer: LayerTraits = { qkv_bias: false, qk_norm: false }
export const layerTraits = Object.keys(plainLayer) as (keyof LayerTraits)[]

/** By `model_type`. A model that several can describe is saved as the first of them. */
export const architectures = {
  llama: { className: 'LlamaForCausalLM', layer: plainLayer, defaults: sentencePiece },
  mistral: {
    className: 'MistralForCausalLM',
    layer: plainLayer,
    defaults: { ...sentencePiece, num_key_value_heads: 8, max_position_embeddings: 131072, sliding_window: 4096 },
  },
  qwen2: {
    className: 'Qwen2ForCausalLM',
    layer: { qkv_bias: true, qk_norm: false },
    defaults: { ...common, max_position_embeddings: 32768, use_sliding_window: false },
  },
  qwen3: {
    className: 'Qwen3ForCausalLM',
    layer: { qkv_bias: false, qk_norm: true },
    defaults: { ...common, head_dim: 128, max_position_embeddings: 32768, use_sliding_window: false },
  },
} satisfies Record<string, Architecture>

/** "mor" is a model of this package that no architecture of Hugging Face describes. */
export type ModelType = keyof typeof architectures | 'mor'
export const modelTypes = [...Object.keys(architectures), 'mor'] as ModelType[]

/** Null for "mor", and for what is no model type. */
export function architectureOf(modelType: unknown): Architecture | null {
  return Object.hasOwn(architectures, String(modelType)) ? architectures[modelType as keyof typeof architectures] : null
}

/** The model types that describe such a model, at least one; the first is the one that it is saved as. */
export function modelTypesOf(config: LayerTraits & { num_recursions: number }): ModelType[] {
  const fitting = modelTypes.filter((type) => {
    const layer = architectureOf(type)?.layer
    return config.num_recursions === 1 && layer !== undefined && sameLayers(layer, config)
  })
  return fitting.length > 0 ? fitting : ['mor']
}

export function sameLayers(a: LayerTraits, b: LayerTraits): boolean {
  return layerTraits.every((trait) => a[trait] === b[trait])
}

/** For messages, e.g. "qkv_bias is true and qk_norm is false". */
export function describeLayer(layer: LayerTraits): string {
  return layerTraits.map((trait) => `${trait} is ${layer[trait]}`).join(' and ')
}
