// Chat templates: where they are found, and that they give the text that Hugging Face's library gives.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ChatTemplate } from '../../../lib/chat/chat_template.js'
import type { ChatMessage } from '../../../lib/chat/messages.js'
import { long, short, tagged, turns } from './templates.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mor-chat-'))
})
afterEach(async () => {
  vi.useRealTimers()
  await rm(folder, { recursive: true })
})

const write = (name: string, content: string | object) =>
  writeFile(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content))

async function load(files: Record<string, string | object>, name = ''): Promise<ChatTemplate> {
  for (const [file, content] of Object.entries(files)) await write(file, content)
  return (await ChatTemplate.load(join(folder, name)))!
}

const named = { bos_token: '<s>', eos_token: { content: '</s>', lstrip: false } }
const json = '{"turns": 1, "roles": ["user"], "é": null, "deep": {"x": [1, true, "a\\"b"]}}'
const list = '[\n  {\n    "a": 1\n  },\n  []\n]\n'

describe('the text', () => {
  it('is that of the template, with the special tokens of the tokenizer', async () => {
    const template = await load({ 'tokenizer_config.json': { ...named, chat_template: turns } })
    expect(template.render(short)).toBe('<s>[Q] Hi [/Q]')
    expect(template.render(long)).toBe('<s>[Q] Be brief.\n\nHi [/Q] Hello.</s>[Q] How <are> "you", é? [/Q]')
  })

  it('has dates, JSON and blank space as Python has them', async () => {
    vi.useFakeTimers({ now: new Date(2026, 1, 3, 14, 5, 9) })
    const template = await load({ 'chat_template.jinja': tagged })
    expect(template.render(short)).toBe(`<|user|>\nHi\n<|end|>\n<|assistant|>\n03 Feb 2026 ${json}\n${list}`)
    const all = json.replace('1, "roles": ["user"]', '4, "roles": ["system", "user", "assistant", "user"]')
    expect(template.render(long)).toBe(
      '<|system|>\nBe brief.\n<|end|>\n<|user|>\n Hi \n\n<|end|>\n<|assistant|>\n Hello.\n\n<|end|>\n' +
        `<|user|>\nHow <are> "you", é? (ANN)\n<|end|>\n<|assistant|>\n03 Feb 2026 ${all}\n${list}`,
    )
  })

  it('takes variables, and may end before the answer begins', async () => {
    const template = await load({ 'chat_template.jinja': tagged })
    const variables = { day: 'today', thinking: false }
    expect(template.render(short, { addGenerationPrompt: false, variables })).toBe(
      `<|user|>\nHi\n<|end|>\ntoday ${json}\n${list}<think></think>`,
    )
    const attempt = { day: 'today', messages: [], none: 1, range: 2, strftime_now: 3, python_strftime_now: 4 }
    expect(template.render(short, { variables: attempt })).toBe(
      `<|user|>\nHi\n<|end|>\n<|assistant|>\ntoday ${json}\n${list}`,
    )
  })

  it('joins the parts of a content, and names a developer the system unless the template knows the role', async () => {
    const parts: ChatMessage[] = [
      { role: 'developer', content: [{ type: 'text', text: 'a' }] },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'b' },
          { type: 'text', text: 'c' },
        ],
      },
    ]
    const source = '{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}'
    expect((await load({ 'chat_template.jinja': source })).render(parts)).toBe('system:a;user:b\nc;')
    const knowing = `{# developer #}${source}`
    expect((await load({ 'chat_template.jinja': knowing })).render(parts)).toBe('developer:a;user:b\nc;')
  })

  it('is an error where the template refuses the messages, or fails', async () => {
    const template = await load({ 'chat_template.jinja': turns })
    const twice: ChatMessage[] = [...short, ...short]
    expect(() => template.render(twice)).toThrow(
      expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining('user and assistant take turns, but message 2 is of the user'),
      }),
    )
    const broken = await load({ 'chat_template.jinja': '{{ messages.first() }}' })
    expect(() => broken.render(short)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })
})

describe('the files', () => {
  it('are chat_template.jinja before tokenizer_config.json, in which several have names', async () => {
    const several = [
      { name: 'tool_use', template: 'tools' },
      { name: 'default', template: 'of the list' },
    ]
    expect((await load({ 'tokenizer_config.json': { chat_template: several } })).render(short)).toBe('of the list')
    expect((await load({ 'chat_template.jinja': 'of the file' })).render(short)).toBe('of the file')
    expect((await load({ 'other.jinja': '{{ bos_token }}other' }, 'other.jinja')).render(short)).toBe('other')
    const map = { 'special_tokens_map.json': { bos_token: '<b>', eos_token: '<e>' } }
    expect((await load({ ...map, 'chat_template.jinja': '{{ bos_token }}{{ eos_token }}' })).render(short)).toBe(
      '<b><e>',
    )
  })

  it('need not be there', async () => {
    expect(await ChatTemplate.load(folder)).toBeNull()
    await write('tokenizer_config.json', named)
    expect(await ChatTemplate.load(folder)).toBeNull()
    await expect(ChatTemplate.load(join(folder, 'none'))).rejects.toMatchObject({ code: 'CHECKPOINT_MISSING' })
  })

  it.each<[Record<string, string | object>, RegExp]>([
    [{ 'tokenizer_config.json': '{' }, /tokenizer_config.json is not JSON/],
    [{ 'tokenizer_config.json': { chat_template: 5 } }, /chat_template is 5; it must be a text or a list/],
    [{ 'tokenizer_config.json': { chat_template: [] } }, /chat_template is \[\]; it must be/],
    [
      { 'tokenizer_config.json': { chat_template: [{ name: 'rag', template: '' }] } },
      /the templates "rag"; one must have/,
    ],
    [{ 'chat_template.jinja': '{% if %}' }, /chat_template.jinja: the chat template is wrong: /],
    [{ 'chat_template.jinja': '{% for m in messages %}' }, /chat_template.jinja: the chat template is wrong: /],
  ])('are refused where they are wrong: %j', async (files, message) => {
    await expect(load(files)).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringMatching(message),
    })
  })
})
