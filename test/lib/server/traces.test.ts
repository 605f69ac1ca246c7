// Traces where the package that makes them is not installed. Spans are tested in observe.test.ts.
import { expect, it, vi } from 'vitest'
import { createServer } from '../../../lib/server/index.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { ScriptedEngine } from './scripted_engine.js'

vi.mock('@opentelemetry/api', () => {
  throw new Error('Cannot find package')
})

const options = { engine: new ScriptedEngine(), tokenizer: Tokenizer.byteLevel(), modelName: 'tiny' }

it('a server with traces says what to install before it listens', async () => {
  const app = createServer({ ...options, traces: true })
  await expect(app.ready()).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringContaining('npm install @opentelemetry/api'),
  })
})

it('a server without them does not need it', async () => {
  const app = createServer(options)
  await app.ready()
  expect((await app.inject('/health')).statusCode).toBe(200)
  await app.close()
})
