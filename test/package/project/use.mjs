// The package by `import`; the same implementation as by `require`.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { devices, Model } from 'mixture-of-recursions'
import { createServer } from 'mixture-of-recursions/server'

assert.equal(createRequire(import.meta.url)('mixture-of-recursions').Model, Model)
assert.equal(typeof createServer, 'function')
assert.equal(devices()[0].usable, true)
