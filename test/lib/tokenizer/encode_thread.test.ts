// Encoding long texts on a thread: the ids are those of `encode`, the event loop stays free, and a thread is ended when it should be.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { EncodeThread } from '../../../lib/tokenizer/encode_thread.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { longestBlock, randomLetters, savePairTokenizer } from './pair_tokenizer.js'

const started: Worker[] = []
type Worker = import('node:worker_threads').Worker
vi.mock('node:worker_threads', async (original) => {
  const threads = await original<typeof import('node:worker_threads')>()
  return {
    ...threads,
    Worker: class extends threads.Worker {
      constructor(...options: ConstructorParameters<typeof threads.Worker>) {
        super(...options)
        started.push(this)
      }
    },
  }
})

let folder: string
let tokenizer: Tokenizer
beforeAll(async () => {
  folder = await savePairTokenizer()
})
beforeEach(async () => {
  started.length = 0
  tokenizer = await Tokenizer.load(folder)
})

const long = randomLetters(5_000)
/** Takes so long that a test would notice if it had to wait for it. */
const endless = long.repeat(400)

describe('encodeBatch', { timeout: 120_000 }, () => {
  it('gives the ids of encode, and starts a thread only for long texts', async () => {
    const short = ['', 'abc d', 'ü<|endoftext|>']
    expect(await tokenizer.encodeBatch(short)).toEqual(short.map((text) => tokenizer.encode(text)))
    expect(started.length).toBe(0)
    const texts = [...short, long]
    const ids = await tokenizer.encodeBatch(texts)
    expect(ids).toEqual(texts.map((text) => tokenizer.encode(text)))
    expect(ids[3]!.length).toBeLessThan(4_000)
    await Promise.all([tokenizer.encodeBatch(texts), tokenizer.encodeBatch(texts)])
    expect(started.length).toBe(1)
    expect(await Tokenizer.byteLevel().encodeBatch(texts)).toEqual(
      texts.map((text) => Tokenizer.byteLevel().encode(text)),
    )
  })

  it('leaves the event loop free', async () => {
    await tokenizer.encodeBatch([long]) // starts the thread
    const text = long.repeat(20)
    const began = performance.now()
    const blocked = await longestBlock(() => tokenizer.encodeBatch([text]))
    const took = performance.now() - began
    expect(took).toBeGreaterThan(100)
    expect(blocked).toBeLessThan(took / 3)
  })

  it('that is aborted ends at once, also in the middle of a text, and harms no other', async () => {
    const controllers = [new AbortController(), new AbortController()]
    const [running, waiting] = controllers.map(({ signal }) => tokenizer.encodeBatch([endless], { signal }))
    const last = tokenizer.encodeBatch([long])
    controllers[1]!.abort('not needed')
    await expect(waiting).rejects.toMatchObject({ code: 'ABORTED', cause: 'not needed' })
    expect(started.length).toBe(1)
    const ended = once(started[0]!, 'exit')
    controllers[0]!.abort()
    await expect(running).rejects.toMatchObject({ code: 'ABORTED' })
    expect(await last).toEqual([tokenizer.encode(long)])
    expect(started.length).toBe(2)
    await ended
    for (const one of [tokenizer, Tokenizer.byteLevel()]) {
      await expect(one.encodeBatch([long], { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' })
    }
  })

  it('tells its caller when the thread fails, and works again after it', async () => {
    const lost = tokenizer.encodeBatch([endless])
    await started[0]!.terminate()
    await expect(lost).rejects.toMatchObject({ code: 'INTERNAL', message: expect.stringContaining('thread') })
    expect(await tokenizer.encodeBatch([long])).toEqual([tokenizer.encode(long)])
    const broken = new EncodeThread({ json: '{' })
    const request = { texts: ['a'], addSpecialTokens: true }
    for (const _ of [1, 2])
      await expect(broken.encode(request)).rejects.toMatchObject({
        code: 'INTERNAL',
        message: expect.stringMatching(/JSON/),
      })
  })

  it('ends a thread that is idle, and starts another when it is needed', async () => {
    const json = readFileSync(join(folder, 'tokenizer.json'), 'utf8')
    const thread = new EncodeThread({ path: 'pairs', fingerprint: '', json, bosTokenId: null, eosTokenId: 256 }, 50)
    const request = { texts: ['abc'], addSpecialTokens: true }
    for (const number of [1, 2]) {
      expect(await thread.encode(request)).toEqual([tokenizer.encode('abc')])
      expect(started.length).toBe(number)
      await once(started.at(-1)!, 'exit')
    }
  })

  it('keeps a process alive until it is done, and no longer', async () => {
    const program = `
      const { Tokenizer } = require('./lib/tokenizer.ts')
      Tokenizer.load(${JSON.stringify(folder)})
        .then((tokenizer) => tokenizer.encodeBatch(['ab'.repeat(5000)]))
        .then(([ids]) => process.stdout.write(String(ids.length)))`
    const child = spawn(process.execPath, ['--import', 'tsx', '--eval', program])
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data))
    const began = performance.now()
    const [code] = await once(child, 'exit')
    expect({ code, output }).toEqual({ code: 0, output: '5000' })
    expect(performance.now() - began).toBeLessThan(50_000) // an idle thread ends after a minute
  })
})
