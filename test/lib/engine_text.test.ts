// Text in the engine: prompts that are text or conversations, stop texts, and the text that comes out.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { ChatMessage } from '../../lib/chat/messages.js'
import type { ModelConfig } from '../../lib/config.js'
import { Engine } from '../../lib/engine.js'
import type { Generation } from '../../lib/generation.js'
import { Model } from '../../lib/model.js'
import { Tokenizer } from '../../lib/tokenizer.js'
import { templateOf } from './chat/load_template.js'
import { turns } from './chat/templates.js'
import { FakeAddon } from './fake_addon.js'

let addon: FakeAddon
vi.mock('../../lib/native_loader.js', () => ({ loadNative: () => addon }))

const config: ModelConfig = {
  vocab_size: 257,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  max_position_embeddings: 64,
  num_recursions: 3,
  router: { type: 'expert_choice' },
}
const tokenizer = Tokenizer.byteLevel()

/** Goes on with the bytes after the last one: after 'ab' comes 'cdef…'. */
let engine: Engine
beforeEach(async () => {
  addon = new FakeAddon()
  engine = new Engine(await Model.create(config, { tokenizer }))
})

const submitted = () => vi.mocked(addon.engines.at(-1)!.submit).mock.calls
const spyOnSubmit = () => vi.spyOn(addon.engines.at(-1)!, 'submit')

async function textOf(generation: Generation, own?: Tokenizer): Promise<string[]> {
  const pieces: string[] = []
  for await (const piece of generation.text(own)) pieces.push(piece)
  return pieces
}

describe('a prompt that is text', () => {
  it('is encoded by the model’s tokenizer, and the result has text', async () => {
    const generation = engine.generate('ab', { maxTokens: 3 })
    expect(await textOf(generation)).toEqual(['c', 'd', 'e'])
    expect(await generation.result).toMatchObject({ text: 'cde', tokens: [99, 100, 101], finishReason: 'length' })
    const tokens = engine.generate([97, 98], { maxTokens: 3 })
    expect(await textOf(tokens)).toEqual(['c', 'd', 'e'])
    expect(await tokens.result).not.toHaveProperty('text')
  })

  it('never ends a piece inside a character', async () => {
    // After 0xc2 comes 0xc3, which is unfinished, then 0xc4.
    const generation = engine.generate([0xc2], { maxTokens: 2 })
    expect((await textOf(generation)).join('')).toBe('\ufffd\ufffd')
    const result = await engine.generate('\u00c2', { maxTokens: 1 }).result // its last byte is 0x82
    expect(result).toMatchObject({ text: '\ufffd', tokens: [0x83] })
  })

  it('may be empty, and then starts from the end token', async () => {
    const spied = spyOnSubmit()
    await engine.generate('', { maxTokens: 1 }).result
    expect(spied.mock.calls[0]![1]).toEqual(Int32Array.of(256))
  })

  it('generates no further than the context', async () => {
    expect((await engine.generate('a'.repeat(60), { maxTokens: 100 }).result).tokens).toHaveLength(4)
  })

  it('can be reported with log-probabilities', async () => {
    const generation = engine.generate('abc', { maxTokens: 1, promptLogprobs: 0 })
    expect((await generation.promptTokens()).map((token) => token?.token)).toEqual([undefined, 98, 99])
  })

  it.each<[string, string, object, string, RegExp]>([
    ['too long', 'a'.repeat(64), {}, 'CONTEXT_OVERFLOW', /the prompt has 64 tokens and the context holds 64/],
  ])('that is %s is the generation’s error', async (_, prompt, options, code, message) => {
    const generation = engine.generate(prompt, { maxTokens: 1, ...options })
    const { error, finishReason } = await generation.result
    expect(finishReason).toBe('error')
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) })
    await expect(textOf(generation)).rejects.toBe(error)
  })

  it('is refused at once where an option is wrong', () => {
    expect(() => engine.generate('a', { maxTokens: 0 })).toThrow(/maxTokens is 0/)
    for (const stop of ['', [''], ['a', 5], 5, {}]) {
      expect(() => engine.generate('a', { maxTokens: 1, stop: stop as string })).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringContaining('none of them empty') }),
      )
    }
  })

  it('needs a tokenizer, of the engine where the model has none', async () => {
    const model = await Model.create(config)
    const bare = new Engine(model)
    const { error } = await bare.generate('ab', { maxTokens: 1 }).result
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringContaining('has no tokenizer') })
    const generation = bare.generate([97], { maxTokens: 2 })
    await expect(textOf(generation)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect((await generation.result).finishReason).toBe('abort')
    expect(await textOf(bare.generate([97], { maxTokens: 2 }), tokenizer)).toEqual(['b', 'c'])
    expect((await new Engine(model, { tokenizer }).generate('ab', { maxTokens: 1 }).result).text).toBe('c')
  })
})

describe('a tokenizer that throws', () => {
  const throwing = (place: 'push' | 'flush'): Tokenizer => {
    const detokenizer: Tokenizer['detokenizer'] = (prompt) => {
      const own = tokenizer.detokenizer(prompt)
      const fail = () => {
        throw new Error('no such word')
      }
      const { push, peek, flush } = own
      const parts = { push: push.bind(own), peek: peek.bind(own), flush: flush.bind(own) }
      return Object.assign(Object.create(own), parts, { [place]: fail })
    }
    return Object.assign(Object.create(tokenizer), { detokenizer })
  }

  it.each(['push', 'flush'] as const)('in %s ends its own request alone', async (place) => {
    const wrong = new Engine(await Model.create(config, { tokenizer }), { tokenizer: throwing(place) })
    const abort = vi.spyOn(addon.engines.at(-1)!, 'abort')
    const failing = wrong.generate('ab', { maxTokens: 3 })
    const tokens = wrong.generate([97, 98], { maxTokens: 5 })
    expect(await failing.result).toMatchObject({
      finishReason: 'error',
      error: { code: 'INTERNAL', message: 'no such word' },
      text: place === 'push' ? '' : 'cde',
    })
    expect((await tokens.result).tokens).toEqual([99, 100, 101, 102, 103])
    expect(abort).toHaveBeenCalledTimes(place === 'push' ? 1 : 0)
    await wrong.close()
  })
})

describe('stop texts', () => {
  it('are those of the call, whatever becomes of their list', async () => {
    const stop = ['fg']
    const ask = () => engine.generate('ab', { maxTokens: 8, stop }).result
    const first = ask()
    stop[0] = 'hij'
    const second = ask()
    stop[0] = 'd'
    const texts = (await Promise.all([first, second])).map(({ text }) => text)
    expect(texts).toEqual(['cde', 'cdefg'])
    expect((await ask()).text).toBe('c')
    stop[0] = 'eg' // whose beginning comes, and then another letter
    stop.push('ij')
    expect((await ask()).text).toBe('cdefgh')
  })

  it('end the text, and the request, also across tokens', async () => {
    const abort = vi.spyOn(addon.engines[0]!, 'abort')
    const generation = engine.generate('ab', { maxTokens: 30, stop: ['xyz', 'efg'] })
    expect(await textOf(generation)).toEqual(['c', 'd'])
    expect(await generation.result).toMatchObject({
      text: 'cd',
      tokens: [99, 100, 101, 102, 103],
      finishReason: 'stop',
    })
    expect(abort).toHaveBeenCalledOnce()
    expect((await engine.generate([97, 98], { maxTokens: 30, stop: 'efg' }).result).text).toBe('cd')
  })

  it('hold back what may become one, and let it go at the end', async () => {
    const generation = engine.generate('ab', { maxTokens: 4, stop: 'efgh' })
    expect(await textOf(generation)).toEqual(['c', 'd', 'ef'])
    expect(await generation.result).toMatchObject({ text: 'cdef', finishReason: 'length' })
  })

  it('count after the least number of tokens', async () => {
    const ask = (minTokens: number) => engine.generate('ab', { maxTokens: 9, stop: ['ef', 'hi'], minTokens }).result
    expect((await ask(3)).text).toBe('cd')
    expect((await ask(4)).text).toBe('cdefg')
    expect((await ask(9)).text).toBe('cdefghijk')
    const generation = engine.generate('ab', { maxTokens: 9, stop: ['ef', 'hi'], minTokens: 4 })
    expect((await textOf(generation)).join('')).toBe('cdefg')
  })
})

describe('a conversation', () => {
  const messages: ChatMessage[] = [{ role: 'user', content: 'Hi' }]

  it('becomes a prompt by the chat template, without a second begin token', async () => {
    const chatting = new Engine(engine.model, { chatTemplate: await templateOf(turns) })
    const spied = vi.spyOn(addon.engines.at(-1)!, 'submit')
    const generation = chatting.chat(messages, { maxTokens: 2, stop: '_' })
    expect(await generation.result).toMatchObject({ text: '^', finishReason: 'stop' })
    const [, prompt, params] = spied.mock.calls[0]!
    expect(Buffer.from(prompt).toString()).toBe('<s>[Q] Hi [/Q]')
    expect(params.maxTokens).toBe(2)
    const all = chatting.chat(messages)
    expect((await all.result).tokens).toHaveLength(64 - '<s>[Q] Hi [/Q]'.length)
  })

  it('takes variables of the template', async () => {
    const template = await templateOf('{{ tone }}{{ add_generation_prompt }}')
    const chatting = new Engine(engine.model, { chatTemplate: template })
    const spied = vi.spyOn(addon.engines.at(-1)!, 'submit')
    await chatting.chat(messages, { maxTokens: 1, addGenerationPrompt: false, variables: { tone: '!' } }).result
    expect(Buffer.from(spied.mock.calls[0]![1]).toString()).toBe('!false')
  })

  it('has the defaults of options that are null', async () => {
    const chatting = new Engine(engine.model, {
      chatTemplate: await templateOf('{{ tone }}{{ add_generation_prompt }}'),
    })
    const spied = vi.spyOn(addon.engines.at(-1)!, 'submit')
    const nothing = {
      maxTokens: null,
      stop: null,
      addGenerationPrompt: null,
      variables: null,
      seed: null,
      signal: null,
    }
    const { tokens } = await chatting.chat(messages, nothing as never).result
    expect(Buffer.from(spied.mock.calls[0]![1]).toString()).toBe('true')
    expect(tokens).toHaveLength(64 - 'true'.length)
  })

  it('is an error where it is wrong, refused, or there is no template', async () => {
    expect(() => engine.chat([])).toThrow(/messages is an empty list/)
    expect(() => engine.chat([{ role: 'wizard', content: '' } as never])).toThrow(/messages\[0\].role is "wizard"/)
    expect(() => engine.chat(messages, { maxToken: 5 } as never)).toThrow(/unknown key "maxToken"/)
    const { error } = await engine.chat(messages).result
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringContaining('no chat template') })
    const chatting = new Engine(engine.model, { chatTemplate: await templateOf(turns) })
    const refused = await chatting.chat([...messages, ...messages]).result
    expect(refused.error!.message).toContain('user and assistant take turns')
  })
})

describe('a loaded model', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'mor-text-'))
    await engine.model.save(folder)
  })
  afterEach(() => rm(folder, { recursive: true }))

  it('has the tokenizer and the template of its folder, read when they are needed', async () => {
    await writeFile(join(folder, 'chat_template.jinja'), '{{ messages[0].content }}')
    const loaded = new Engine(await Model.load(folder))
    expect((await loaded.generate('ab', { maxTokens: 2 }).result).text).toBe('cd')
    expect((await loaded.chat([{ role: 'user', content: 'ab' }], { maxTokens: 2 }).result).text).toBe('cd')
  })

  it('says where it looked, and finds what is put there later', async () => {
    await rm(join(folder, 'tokenizer.json'))
    const loaded = new Engine(await Model.load(folder))
    const { error } = await loaded.generate('ab', { maxTokens: 2 }).result
    expect(error).toMatchObject({ code: 'CHECKPOINT_MISSING', message: expect.stringContaining(folder) })
    await tokenizer.save(folder)
    expect((await loaded.generate('ab', { maxTokens: 2 }).result).text).toBe('cd')
    const chat = await loaded.chat([{ role: 'user', content: 'ab' }]).result
    expect(chat.error).toMatchObject({ message: expect.stringContaining(`no chat template in ${folder}`) })
  })
})

describe('a request that ends while its prompt is encoded', () => {
  it('ends the encoding too, also where the engine is closed', async () => {
    const signals: AbortSignal[] = []
    const encodeBatch = (_: readonly string[], { signal }: { signal: AbortSignal }) => {
      signals.push(signal)
      return new Promise<Int32Array[]>((_resolve, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason)),
      )
    }
    const slow: Tokenizer = Object.assign(Object.create(tokenizer), { encodeBatch })
    const closing = new Engine(await Model.create(config), { tokenizer: slow })
    const aborted = closing.generate('ab', { maxTokens: 3 })
    const closed = closing.generate('ab', { maxTokens: 3 })
    await expect.poll(() => signals.length).toBe(2)
    aborted.abort()
    expect(signals.map((signal) => signal.aborted)).toEqual([true, false])
    await closing.close()
    expect(signals.map((signal) => signal.aborted)).toEqual([true, true])
    for (const generation of [aborted, closed]) expect((await generation.result).finishReason).toBe('abort')
  })

  it('is never submitted', async () => {
    spyOnSubmit()
    const aborted = engine.generate('ab', { maxTokens: 3 })
    aborted.abort()
    expect(await aborted.result).toMatchObject({ tokens: [], finishReason: 'abort' })
    const controller = new AbortController()
    const bySignal = engine.generate('ab', { maxTokens: 3, signal: controller.signal })
    controller.abort()
    expect((await bySignal.result).finishReason).toBe('abort')
    expect((await engine.generate('ab', { maxTokens: 3, signal: AbortSignal.abort() }).result).finishReason).toBe(
      'abort',
    )
    for await (const _ of engine.generate('ab', { maxTokens: 3 }).text()) break
    const closed = engine.generate('ab', { maxTokens: 3 })
    const reading = textOf(closed)
    await engine.close()
    expect((await closed.result).finishReason).toBe('abort')
    expect(await reading).toEqual([])
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect(submitted()).toHaveLength(1) // the one that was read
    expect(() => engine.generate('ab', { maxTokens: 3 })).toThrow(/the engine is closed/)
    expect(() => engine.chat([{ role: 'user', content: 'a' }])).toThrow(/the engine is closed/)
  })
})
