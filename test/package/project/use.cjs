// What a user's program does, by `require`: creates a model, trains a step, generates, and disposes of everything.
const assert = require('node:assert/strict')
const { Engine, Model, presets, Trainer } = require('mixture-of-recursions')

const length = 16
const config = {
  vocab_size: 32,
  hidden_size: 16,
  intermediate_size: 32,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  max_position_embeddings: 64,
  num_recursions: 3,
  router: { type: 'expert_choice' },
}

/** @returns {Promise<number[]>} the token ids */
exports.use = async () => {
  assert.ok(presets['135M-mor-3'])
  const model = await Model.create(config, { seed: 1 })
  const trainer = new Trainer(model, { learningRate: 1e-3, schedule: { type: 'constant' } })
  const rows = [0, 1].map((row) => Int32Array.from({ length: length + 1 }, (_, i) => (row + 5 * i) % 32))
  const { loss } = await trainer.step(rows)
  assert.ok(Number.isFinite(loss), `loss is ${loss}`)
  await trainer.dispose()
  const engine = new Engine(model)
  const tokens = []
  for await (const { token } of engine.generate([1, 2, 3], { maxTokens: 8, temperature: 0 })) tokens.push(token)
  assert.equal(tokens.length, 8)
  await engine.close()
  await model.dispose()
  return tokens
}

if (require.main === module) exports.use().then((tokens) => console.log(JSON.stringify(tokens)))
