// Compares whole models on a GPU with the CPU device: the same steps must give the same losses, and the same weights the
// same tokens.
import { type DeviceOption, Engine, Model, type ModelConfig, Trainer } from '../../lib/index.js'
import { randomTokens } from '../lib/random_tokens.js'
import { temporaryFolder } from '../lib/temporary_folder.js'

const vanilla: ModelConfig = {
  vocab_size: 512,
  hidden_size: 192,
  intermediate_size: 512,
  num_hidden_layers: 5,
  num_attention_heads: 3,
  num_key_value_heads: 1,
  head_dim: 64,
  max_position_embeddings: 128,
}

const models: Record<string, ModelConfig> = {
  vanilla,
  expert_choice: { ...vanilla, num_recursions: 3, router: { type: 'expert_choice', selection: 'topk' } },
  expert_choice_shared: {
    ...vanilla,
    num_recursions: 3,
    kv_cache: 'shared',
    router: { type: 'expert_choice', selection: 'topk' },
  },
  token_choice: { ...vanilla, num_recursions: 3, router: { type: 'token_choice' } },
}

const dtypes = ['float32', 'bfloat16'] as const
type DType = (typeof dtypes)[number]

/**
 * Rounding differs between devices and may change a router's choice. `losses`: by how much a loss may differ, as a share of
 * it; `tokens`: how large a share of the tokens must be equal. In bfloat16 AMX and AVX2, whose sums have different orders,
 * differ by up to 1.2% of a loss and 0.2% of the tokens.
 */
const tolerances: Record<DType, { losses: number; tokens: number }> = {
  float32: { losses: 0.02, tokens: 0.95 },
  bfloat16: { losses: 0.03, tokens: 0.95 },
}

const steps = 50
const rows = 8
const length = 96

export interface Parity {
  /** Largest |difference| / loss over all steps. */
  lossDifference: number
  firstLoss: number
  lastLoss: number
  /** Share of the greedily generated tokens that are equal. */
  tokensEqual: number
  ok: boolean
}

/** By dtype and model. float32 has no tensor cores: only bfloat16 runs the kernels that train and serve. */
export async function compare(device: string): Promise<Record<string, Parity>> {
  const found: Record<string, Parity> = {}
  for (const dtype of dtypes)
    for (const [name, config] of Object.entries(models))
      found[`${dtype}_${name}`] = await compareModel(config, device, dtype)
  return found
}

async function compareModel(config: ModelConfig, device: string, dtype: DType): Promise<Parity> {
  using folder = temporaryFolder('mor-parity-')
  const expected = await train(config, 'cpu', dtype, folder.path)
  const losses = await train(config, device, dtype)
  const expectedTokens = await generate(folder.path, 'cpu', dtype)
  const tokens = await generate(folder.path, device, dtype)
  const lossDifference = Math.max(...losses.map((loss, i) => Math.abs(loss - expected[i]!) / expected[i]!))
  const equal = tokens.filter((token, i) => token === expectedTokens[i]).length / expectedTokens.length
  return {
    lossDifference,
    firstLoss: losses[0]!,
    lastLoss: losses.at(-1)!,
    tokensEqual: equal,
    ok: lossDifference < tolerances[dtype].losses && equal > tolerances[dtype].tokens,
  }
}

/** Losses of steps on a few repeated batches, so that they fall; saves the model if a folder is given. */
async function train(config: ModelConfig, device: string, dtype: DType, folder?: string): Promise<number[]> {
  await using model = await Model.create(config, { device: device as DeviceOption, dtype, seed: 1 })
  await using trainer = new Trainer(model, { learningRate: 1e-3 })
  const losses: number[] = []
  for (let step = 0; step < steps; step++) {
    const batch = Array.from({ length: rows }, (_, row) =>
      randomTokens(length + 1, config.vocab_size, (step % 4) * rows + row + 1),
    )
    losses.push((await trainer.step(batch)).lmLoss)
  }
  if (folder !== undefined) await model.save(folder)
  return losses
}

async function generate(folder: string, device: string, dtype: DType): Promise<number[]> {
  await using model = await Model.load(folder, { device: device as DeviceOption, dtype })
  await using engine = new Engine(model)
  const generations = Array.from({ length: rows }, (_, row) =>
    engine.generate(randomTokens(16, model.config.vocab_size, row + 1), { maxTokens: 64, temperature: 0 }),
  )
  const results = await Promise.all(generations.map(({ result }) => result))
  return results.flatMap(({ tokens }) => [...tokens])
}
