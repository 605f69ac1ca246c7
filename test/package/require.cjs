// The built package by `require`, in the main thread and in a worker thread: it loads without the native addon, and a
// call that needs the addon either works or says what is missing.
const assert = require('node:assert/strict')
const { createRequire } = require('node:module')
const { join } = require('node:path')
const { isMainThread, Worker } = require('node:worker_threads')

const { devices, MorError } = createRequire(join(__dirname, '../../package.json'))('mixture-of-recursions')

try {
  assert.ok(devices().length > 0)
} catch (error) {
  assert.ok(error instanceof MorError, error)
  assert.equal(error.code, 'NATIVE_MISSING')
}
if (isMainThread)
  new Worker(__filename).on('error', (error) => {
    throw error
  })
