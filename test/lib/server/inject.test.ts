// Requests that an application hands to its server without a connection, by `app.inject`.
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { createServer } from '../../../lib/server/index.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { templateOf } from '../chat/load_template.js'
import { turns } from '../chat/templates.js'
import { answerText, ScriptedEngine } from './scripted_engine.js'

const chatTemplate = await templateOf(turns)
const messages = [{ role: 'user', content: 'Hi' }]
const bodies = {
  '/v1/completions': { model: 'tiny', prompt: 'Once', max_tokens: 8 },
  '/v1/chat/completions': { model: 'tiny', messages, max_tokens: 8 },
}

function serve(engine = new ScriptedEngine(answerText('née'))) {
  return createServer({ engine, tokenizer: Tokenizer.byteLevel(), modelName: 'tiny', chatTemplate, stallTimeoutMs: 50 })
}

describe.each(Object.entries(bodies))('app.inject of POST %s', (url, body) => {
  it('gives the whole answer', async () => {
    const app = serve()
    const answer = await app.inject({ method: 'POST', url, payload: body })
    expect(answer.statusCode).toBe(200)
    expect(JSON.stringify(answer.json().choices)).toContain('née')
    await sleep(100) // longer than a client may be slow
    expect((await app.inject({ method: 'POST', url, payload: body })).statusCode).toBe(200)
    await app.close()
  })

  it('gives the events of a stream', async () => {
    const app = serve()
    const answer = await app.inject({ method: 'POST', url, payload: { ...body, stream: true } })
    expect(answer.statusCode).toBe(200)
    const events = answer.payload.split('\n\n').filter((event) => event !== '')
    expect(events.at(-1)).toBe('data: [DONE]')
    const texts = events.slice(0, -1).map((event) => {
      const [choice] = JSON.parse(event.slice(6)).choices
      return choice.text ?? choice.delta.content ?? ''
    })
    expect(texts.join('')).toBe('née')
    await app.close()
  })

  it('gives errors', async () => {
    const app = serve()
    const answer = await app.inject({ method: 'POST', url, payload: { ...body, max_tokens: -1 } })
    expect([answer.statusCode, answer.json().error.param]).toEqual([400, 'max_tokens'])
    await app.close()
  })
})
