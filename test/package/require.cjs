// The built package by `require`, in the main thread and in a worker thread: it loads without the native addon, a call that
// needs the addon either works or says what is missing, and the thread that encodes long texts finds its file.
const assert = require('node:assert/strict')
const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const { createRequire } = require('node:module')
const { tmpdir } = require('node:os')
const { join } = require('node:path')
const { isMainThread, Worker } = require('node:worker_threads')

const { devices, MorError, Tokenizer } = createRequire(join(__dirname, '../../package.json'))('mixture-of-recursions')

try {
  assert.ok(devices().length > 0)
} catch (error) {
  assert.ok(error instanceof MorError, error)
  assert.equal(error.code, 'NATIVE_MISSING')
}

async function encodeLongText() {
  const folder = mkdtempSync(join(tmpdir(), 'mor-package-'))
  const path = join(folder, 'tokenizer.json')
  await Tokenizer.byteLevel().save(folder)
  const json = JSON.parse(readFileSync(path, 'utf8'))
  json.model.vocab.ab = 257
  json.model.merges = [['a', 'b']]
  writeFileSync(path, JSON.stringify(json))
  const tokenizer = await Tokenizer.load(folder)
  rmSync(folder, { recursive: true })
  const [ids] = await tokenizer.encodeBatch(['ab'.repeat(5000)])
  assert.equal(ids.length, 5000)
}
encodeLongText()

if (isMainThread)
  new Worker(__filename).on('error', (error) => {
    throw error
  })
