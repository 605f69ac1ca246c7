// `mor serve` as a process: what it prints, how signals end it, and that a killed one can be started again.
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type IncomingMessage, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeTinyModel, post, saveTinyModel } from '../server/tiny_model.js'
import { mor, morProcess } from './process.js'
import { type Serving, startServe } from './serve_process.js'

let folder: string
let remove: () => Promise<void>
beforeAll(async () => {
  ;({ folder, remove } = await saveTinyModel())
})
afterAll(() => remove())

const running = new Set<ChildProcess>()
afterAll(() => {
  for (const child of running) child.kill('SIGKILL')
})

async function serve(...args: string[]): Promise<Serving> {
  const serving = await startServe(folder, '--model-name', 'tiny', ...args)
  running.add(serving.child)
  serving.ended.then(() => running.delete(serving.child))
  return serving
}

const ask = { model: 'tiny', prompt: 'Once upon a time', max_tokens: 200 }

/** Starts a stream larger than all buffers between server and client, and reads only its beginning. */
async function unreadStream(url: string) {
  const body = JSON.stringify({ ...ask, max_tokens: 240, n: 128, stream: true })
  const sent = request(`${url}/v1/completions`, { method: 'POST', headers: { 'content-type': 'application/json' } })
  sent.end(body)
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  response.on('error', () => {}) // the server may close the connection
  response.once('readable', () => response.read(1))
  return response
}

describe('mor serve', { timeout: 60_000 }, () => {
  it('takes the template of conversations from a file, and from the checkpoint where it has one', async () => {
    const chat = async (url: string) => {
      const body = JSON.stringify({ model: 'tiny', messages: [{ role: 'user', content: 'Hi' }], max_tokens: 4 })
      const headers = { 'content-type': 'application/json' }
      const response = await fetch(`${url}/v1/chat/completions`, { method: 'POST', headers, body })
      return [response.status, ((await response.json()) as { usage?: { prompt_tokens: number } }).usage?.prompt_tokens]
    }
    const none = await serve()
    expect(await chat(none.url)).toEqual([400, undefined])
    none.child.kill('SIGTERM')
    const other = await mkdtemp(join(tmpdir(), 'mor-templates-'))
    const file = join(other, 'other.jinja')
    await writeFile(file, '{{ bos_token }}{{ messages[0].content }}!')
    await writeFile(join(folder, 'tokenizer_config.json'), '{"bos_token":"<s>"}')
    const given = await serve('--chat-template', file)
    await rm(join(folder, 'tokenizer_config.json'))
    expect(await chat(given.url)).toEqual([200, 6]) // a byte each
    given.child.kill('SIGTERM')
    await rm(file)
    const refused = await mor('serve', '--model', folder, '--chat-template', other)
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/there is no chat template in .*; give a file/),
    })
    await writeFile(join(folder, 'chat_template.jinja'), '{{ messages[0].content }} there')
    const own = await serve()
    await rm(join(folder, 'chat_template.jinja'))
    expect(await chat(own.url)).toEqual([200, 8])
    own.child.kill('SIGTERM')
    await Promise.all([none.ended, given.ended, own.ended])
  })

  it('serves, and at SIGTERM finishes what is under way', async () => {
    const { url, child, ended, line } = await serve()
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
    const stream = await unreadStream(url)
    child.kill('SIGTERM')
    expect(await line()).toEqual({ type: 'draining' })
    const health = () =>
      fetch(`${url}/health`).then(
        ({ status }) => status,
        (error) => error.cause.code,
      )
    await expect.poll(health).toBe('ECONNREFUSED')
    let text = ''
    for await (const data of stream.setEncoding('utf8')) text += data
    expect(text.match(/"finish_reason":"(length|stop)"/g)).toHaveLength(128)
    expect(text.endsWith('data: [DONE]\n\n')).toBe(true)
    expect(await line()).toEqual({ type: 'end' })
    expect(await ended).toMatchObject({ code: 0, stderr: '' })
  })

  it('ends at once at a second signal', async () => {
    const { url, child, ended, line } = await serve()
    await unreadStream(url)
    child.kill('SIGTERM')
    expect(await line()).toEqual({ type: 'draining' })
    await new Promise((resolve) => setTimeout(resolve, 250)) // earlier ones count as copies of the first
    child.kill('SIGTERM')
    await ended
    expect(child.signalCode).toBe('SIGTERM')
  })

  it('ends within the time it was given', async () => {
    const { url, child, ended } = await serve('--drain-timeout', '0.1')
    await unreadStream(url)
    child.kill('SIGTERM')
    expect(await ended).toMatchObject({ code: 0 })
  })

  it('goes on for its clients when nobody reads its output', async () => {
    const { url, child, ended } = await serve()
    const stream = await unreadStream(url)
    child.stdout!.destroy()
    child.kill('SIGTERM')
    let text = ''
    for await (const data of stream.setEncoding('utf8')) text += data
    expect(text.match(/"finish_reason":"(length|stop)"/g)).toHaveLength(128)
    expect(await ended).toMatchObject({ code: 0, stderr: '' })
  })

  it('finishes what is under way when its terminal is closed', async () => {
    const { url, child, ended, line } = await serve()
    const stream = await unreadStream(url)
    child.kill('SIGHUP')
    expect(await line()).toEqual({ type: 'draining' })
    child.kill('SIGHUP')
    let text = ''
    for await (const data of stream.setEncoding('utf8')) text += data
    expect(text.match(/"finish_reason":"(length|stop)"/g)).toHaveLength(128)
    expect(await ended).toMatchObject({ code: 0, stderr: '' })
  })

  it('takes localhost for one address', async () => {
    const { url, child, ended } = await serve('--host', 'localhost')
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
    child.kill('SIGTERM')
    expect(await ended).toMatchObject({ code: 0 })
  })

  it('asks for the key of MOR_API_KEY', async () => {
    process.env.MOR_API_KEY = 'secret'
    const { url, child, ended } = await serve().finally(() => {
      delete process.env.MOR_API_KEY
    })
    expect((await post(url, ask)).status).toBe(401)
    expect((await post(url, ask, { authorization: 'Bearer secret' })).status).toBe(200)
    child.kill('SIGINT')
    expect(await ended).toMatchObject({ code: 0 })
  })

  it('refuses an empty MOR_API_KEY by that name', async () => {
    process.env.MOR_API_KEY = ''
    const { code, stderr } = await mor('serve', '--model', folder).finally(() => {
      delete process.env.MOR_API_KEY
    })
    expect(code).toBe(1)
    expect(stderr).toContain('MOR_API_KEY')
    expect(stderr).toContain('empty')
  })

  it('lets pages of the origins call it that it was told', async () => {
    const { url, child, ended } = await serve(
      '--api-key',
      'k',
      '--cors-origin',
      'https://a.example',
      'https://b.example',
    )
    const headers = { origin: 'https://b.example', 'access-control-request-method': 'POST' }
    const preflight = await fetch(`${url}/v1/completions`, { method: 'OPTIONS', headers })
    expect(preflight.headers.get('access-control-allow-origin')).toBe('https://b.example')
    child.kill('SIGTERM')
    expect(await ended).toMatchObject({ code: 0 })
  })

  it('loads its checkpoint again at SIGUSR2, while a stream goes on, and keeps the one before where that fails', async () => {
    const own = await saveTinyModel()
    const { url, child, ended, line } = await startServe(own.folder, '--model-name', 'tiny')
    running.add(child)
    const text = async () => {
      const answer = await post(url, { ...ask, max_tokens: 40, temperature: 0 })
      return ((await answer.json()) as { choices: { text: string }[] }).choices[0]!.text
    }
    const before = await text()
    const stream = await unreadStream(url)
    await using model = await makeTinyModel(6)
    await model.save(own.folder)
    child.kill('SIGUSR2')
    expect(await line()).toEqual({ type: 'reloading' })
    await expect.poll(text, { timeout: 20_000 }).not.toBe(before)
    const after = await text()
    let events = ''
    for await (const data of stream.setEncoding('utf8')) events += data
    expect(events.match(/"finish_reason":"(length|stop)"/g)).toHaveLength(128)
    expect(await line()).toEqual({ type: 'reloaded' })

    await writeFile(join(own.folder, 'config.json'), '{}')
    child.kill('SIGUSR2')
    expect(await line()).toEqual({ type: 'reloading' })
    expect(await line()).toMatchObject({ type: 'reload_failed', message: expect.stringContaining('config.json') })
    expect(await text()).toBe(after)
    child.kill('SIGTERM')
    expect(await ended).toMatchObject({ code: 0, stderr: '' })
    await own.remove()
  })

  it('writes a log with ids, fields at fault and usage where it is told to', async () => {
    const { url, child, ended } = await serve('--log-level', 'info', '--traces')
    await post(url, { ...ask, max_tokens: 0 }, { 'x-request-id': 'wrong' })
    await post(url, { ...ask, max_tokens: 3 }, { 'x-request-id': 'right' })
    child.kill('SIGTERM')
    const { code, stderr } = await ended
    expect(code).toBe(0)
    const lines = stderr
      .trim()
      .split('\n')
      .map((entry) => JSON.parse(entry))
    expect(lines.find(({ param }) => param === 'max_tokens')).toMatchObject({ reqId: 'wrong', status: 400 })
    expect(lines.find(({ completionTokens }) => completionTokens !== undefined)).toMatchObject({ reqId: 'right' })
  })

  it('serves again at once where it was killed under load', async () => {
    const first = await serve()
    const streams = Array.from({ length: 16 }, async () => {
      const reader = (await post(first.url, { ...ask, n: 8, stream: true })).body!.getReader()
      await reader.read()
      return reader
    })
    const readers = await Promise.all(streams)
    first.child.kill('SIGKILL')
    await first.ended
    const ends = readers.map(async (reader) => {
      while (!(await reader.read()).done);
    })
    const results = await Promise.allSettled(ends)
    expect(results.filter(({ status }) => status === 'rejected').length).toBeGreaterThan(0)

    const second = await serve('--port', new URL(first.url).port)
    const answer = await post(second.url, ask)
    expect(await answer.json()).toMatchObject({ choices: [{ finish_reason: expect.stringMatching(/length|stop/) }] })
    const taken = await morProcess(['serve', '--model', folder, '--port', new URL(first.url).port], () => {})
    expect(taken.code).toBe(1)
    expect(taken.stderr).toMatch(/\[IO_ERROR\] port \d+ of 127.0.0.1 is in use \(EADDRINUSE\): give another port/)
    second.child.kill('SIGTERM')
    expect(await second.ended).toMatchObject({ code: 0 })
  })
})
