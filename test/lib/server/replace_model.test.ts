// A model that is replaced while requests are under way.
import { describe, expect, it } from 'vitest'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { templateOf } from '../chat/load_template.js'
import { turns } from '../chat/templates.js'
import { answerText, ScriptedEngine } from './scripted_engine.js'
import { listen, post } from './tiny_model.js'

const tokenizer = Tokenizer.byteLevel()
const ask = { model: 'tiny', prompt: 'Once', max_tokens: 8 }

async function textOf(response: Promise<Response>): Promise<string> {
  return ((await (await response).json()) as { choices: { text: string }[] }).choices[0]!.text
}

async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Number(new RegExp(`^${name}\\S* (\\d+)$`, 'm').exec(text)![1])
}

const counted = (url: string) => metric(url, 'vllm:generation_tokens_total')

describe('replaceModel', () => {
  it('gives new requests the new model, and lets those under way finish on the one before', async () => {
    const old = new ScriptedEngine()
    const next = new ScriptedEngine(answerText('new'))
    await using server = await listen({ engine: old })
    const whole = textOf(post(server.url, ask))
    const stream = await post(server.url, { ...ask, stream: true })
    await expect.poll(() => old.requests.length).toBe(2)
    let left = false
    const replaced = server.app.replaceModel({ engine: next, tokenizer }).then(() => {
      left = true
    })
    expect(await textOf(post(server.url, ask))).toBe('new')
    answerText('old')(old.requests[0]!)
    expect(await whole).toBe('old')
    expect(left).toBe(false)
    answerText('old')(old.requests[1]!)
    expect(await stream.text()).toContain('[DONE]')
    await replaced
    expect([old.requests.length, next.requests.length]).toEqual([2, 1])
    old.closed = true
    expect((await fetch(`${server.url}/health`)).status).toBe(200)
    expect(await counted(server.url)).toBe(80) // 40 of each engine
  })

  it.each<[string, object | undefined, RegExp]>([
    ['nothing', undefined, /^replaceModel is undefined; it must be an object/],
    ['no engine', { tokenizer }, /^replaceModel: engine is undefined; give an Engine/],
    ['no tokenizer', { engine: new ScriptedEngine() }, /^replaceModel: tokenizer is missing/],
    [
      'a name',
      { engine: new ScriptedEngine(), tokenizer, modelName: 'other' },
      /^replaceModel: unknown key "modelName"/,
    ],
  ])('refuses %s, and the model before is still served', async (_, model, message) => {
    const [first, second] = [new ScriptedEngine(answerText('first')), new ScriptedEngine(answerText('second'))]
    await using server = await listen({ engine: first })
    await server.app.replaceModel({ engine: second, tokenizer })
    await expect(server.app.replaceModel(model as never)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })
    expect(await textOf(post(server.url, ask))).toBe('second')
  })

  it('counts an engine until no request uses it, though it was replaced, served again and replaced again', async () => {
    const first = new ScriptedEngine()
    await using server = await listen({ engine: first })
    const waiting = () => metric(server.url, 'vllm:num_requests_waiting') // 2 of each engine
    const before = textOf(post(server.url, ask))
    await expect.poll(() => first.requests.length).toBe(1)
    const replaced = server.app.replaceModel({ engine: new ScriptedEngine(), tokenizer })
    await server.app.replaceModel({ engine: first, tokenizer })
    const again = textOf(post(server.url, ask))
    await expect.poll(() => first.requests.length).toBe(2)
    const replacedAgain = server.app.replaceModel({ engine: new ScriptedEngine(answerText('last')), tokenizer })
    answerText('before')(first.requests[0]!)
    expect(await before).toBe('before')
    await replaced
    expect(await waiting()).toBe(4)
    answerText('again')(first.requests[1]!)
    expect(await again).toBe('again')
    await replacedAgain
    expect(await waiting()).toBe(2)
    expect(await counted(server.url)).toBe(120)
  })

  it('resolves at once where nothing is under way, several times', async () => {
    await using server = await listen({ engine: new ScriptedEngine(answerText('0')) })
    for (const text of ['1', '2', '3']) {
      await server.app.replaceModel({ engine: new ScriptedEngine(answerText(text)), tokenizer })
      expect(await textOf(post(server.url, ask))).toBe(text)
    }
    expect(await counted(server.url)).toBe(160)
  })

  it('takes the place of an engine that was closed, and goes on from what that had counted', async () => {
    const old = new ScriptedEngine()
    await using server = await listen({ engine: old })
    expect(await counted(server.url)).toBe(40)
    old.closed = true
    await server.app.replaceModel({ engine: new ScriptedEngine(answerText('new')), tokenizer })
    expect(await textOf(post(server.url, ask))).toBe('new')
    expect(await counted(server.url)).toBe(80)
  })

  it('takes limits, chat template and health from the new model', async () => {
    await using server = await listen({ engine: new ScriptedEngine(answerText('x')) })
    const chat = () =>
      server.app.inject({
        method: 'POST',
        url: '/v1/chat/completions',
        payload: { model: 'tiny', messages: [{ role: 'user', content: 'Hi' }], max_tokens: 2 },
      })
    expect((await chat()).json().error.code).toBe('no_chat_template')
    const next = new ScriptedEngine(answerText('x'))
    Object.assign(next, { model: { config: { ...next.model.config, max_position_embeddings: 32 } } })
    await server.app.replaceModel({ engine: next, tokenizer, chatTemplate: await templateOf(turns) })
    expect((await chat()).statusCode).toBe(200)
    const models = (await (await fetch(`${server.url}/v1/models`)).json()) as { data: { max_model_len: number }[] }
    expect(models.data[0]!.max_model_len).toBe(32)
    expect((await post(server.url, { ...ask, prompt: 'x'.repeat(32) })).status).toBe(400)
    await server.app.replaceModel({ engine: new ScriptedEngine(answerText('x')), tokenizer })
    expect((await chat()).json().error.code).toBe('no_chat_template')
  })

  it('refuses a model that does not fit, and goes on with the one before', async () => {
    await using server = await listen({ engine: new ScriptedEngine(answerText('old')), maxPromptTokens: 40 })
    const small = new ScriptedEngine()
    Object.assign(small, { model: { config: { ...small.model.config, max_position_embeddings: 32 } } })
    await expect(server.app.replaceModel({ engine: small, tokenizer })).rejects.toThrow(/maxPromptTokens is 40/)
    expect(await textOf(post(server.url, ask))).toBe('old')
    expect(await counted(server.url)).toBe(40)
  })
})
