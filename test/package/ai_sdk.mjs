// The entry `mixture-of-recursions/ai-sdk` of the built package: the same implementation by `import` and by `require`.
// Run it from the package root through standard input, so that the name resolves to this package. It must not need the
// native addon.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { createLanguageModel } from 'mixture-of-recursions/ai-sdk'

assert.equal(createRequire(import.meta.url)('mixture-of-recursions/ai-sdk').createLanguageModel, createLanguageModel)
