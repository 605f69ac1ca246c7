// Models whose routers were set: each token's id decides how many recursions it runs, and not which token follows.
// The addon must have been built.
import { describe, expect, test } from 'vitest'
import { createWithDepthsById, depthOf } from '../../bench/serve/depth_checkpoint.js'
import { Engine, type ModelConfig } from '../../lib/index.js'

const vocabulary = 240
/** Weights so large that the layers would make the code unreadable if they wrote to its dimensions. */
const config = (recursions: number): ModelConfig => ({
  vocab_size: vocabulary,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2 + 2 * recursions,
  num_attention_heads: 2,
  max_position_embeddings: 512,
  initializer_range: 0.2,
  num_recursions: recursions,
  router: { type: 'expert_choice' },
})
const everyToken = Array.from({ length: vocabulary }, (_, token) => token)
const cases = [2, 3, 4].flatMap((recursions) =>
  (['bfloat16', 'float32'] as const).map((dtype) => ({ recursions, dtype })),
)

test('depths are spread evenly over the ids', () => {
  expect([0, 1, 2, 3, 4, 5, 6, 7].map((token) => depthOf(token, 4))).toEqual([1, 2, 3, 4, 1, 2, 3, 4])
})

describe.each(cases)('N = $recursions in $dtype', ({ recursions, dtype }) => {
  const create = (changes: Partial<ModelConfig> = {}) =>
    createWithDepthsById({ ...config(recursions), ...changes }, { device: 'cpu', dtype, seed: 1 })

  test('every id runs its depth, whatever comes before', async () => {
    await using model = await create()
    const orders = [everyToken, everyToken.toReversed(), everyToken.map((token) => (token * 7) % vocabulary)]
    const { depths } = await model.forward(orders)
    expect([...depths]).toEqual(orders.flat().map((token) => depthOf(token, recursions)))
  })

  test('so does every token of prompts and generations in the engine', async () => {
    await using model = await create()
    await using engine = new Engine(model, { maxBatchSize: 8 })
    const prompts = everyToken.slice(0, 32).map((token) => [token])
    const options = { maxTokens: 200, temperature: 1, ignoreEos: true }
    const results = await Promise.all(
      prompts.map((prompt, seed) => engine.generate(prompt, { ...options, seed }).result),
    )
    // The last token of each is reported but does not go through the model.
    const run = results.flatMap(({ tokens }, i) => [...prompts[i]!, ...tokens.slice(0, -1)])
    const expected = new Array<number>(recursions).fill(0)
    for (const token of run) expected[depthOf(token, recursions) - 1]!++
    expect(engine.stats().depthHistogram).toEqual(expected)
  })

  test('the code is not seen in the logits, even where there is hardly anything else', async () => {
    await using model = await create({ initializer_range: 1e-4 })
    const { logits, depths } = await model.forward([everyToken])
    expect(new Set(depths).size).toBe(recursions)
    expect(logits.reduce((most, logit) => Math.max(most, Math.abs(logit)), 0)).toBeLessThan(1e-3)
  })
})

test('other routers are refused', async () => {
  const refused = (router: NonNullable<ModelConfig['router']>) =>
    expect(createWithDepthsById({ ...config(2), router }, { device: 'cpu' })).rejects.toThrow(RangeError)
  await refused({ type: 'token_choice' })
  await refused({ type: 'expert_choice', architecture: 'mlp' })
  await refused({ type: 'expert_choice', auxiliary_router: true })
  await refused({ type: 'expert_choice', capacities: [1, 1] })
})
