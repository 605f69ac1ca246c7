// The built package by `import`: every public name is there, and both module systems share one implementation.
// Run it from the package root through standard input, so that the name resolves to this package. It must not need the
// native addon.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { Dataset, devices, Engine, Model, MorError, presets, Tokenizer, Trainer } from 'mixture-of-recursions'

const required = createRequire(import.meta.url)('mixture-of-recursions')
for (const [name, value] of Object.entries({
  Dataset,
  devices,
  Engine,
  Model,
  MorError,
  presets,
  Tokenizer,
  Trainer,
})) {
  assert.equal(required[name], value, name)
}
