// Messages: what a template is given, and each value that can be wrong named by its path.
import { expect, it } from 'vitest'
import { MessageError, readMessages } from '../../../lib/chat/messages.js'

it('takes texts and lists of parts', () => {
  const messages = [
    { role: 'system', content: 'a' },
    { role: 'developer', content: [{ type: 'text', text: 'b' }] },
    { role: 'user', content: [], name: 'Ann' },
    {
      role: 'assistant',
      content: [
        { type: 'text', text: 'c' },
        { type: 'refusal', refusal: 'd' },
      ],
      refusal: null,
      tool_calls: [],
    },
    { role: 'user', content: '', name: null },
  ]
  expect(readMessages(messages)).toEqual([
    { role: 'system', content: 'a' },
    { role: 'developer', content: 'b' },
    { role: 'user', content: '', name: 'Ann' },
    { role: 'assistant', content: 'c\nd' },
    { role: 'user', content: '' },
  ])
})

const user = (content: unknown) => [
  { role: 'user', content: 'a' },
  { role: 'user', content },
]

it.each<[string, unknown, boolean?]>([
  ['messages', undefined],
  ['messages', 'Hi'],
  ['messages', []],
  ['messages', { role: 'user', content: 'Hi' }],
  ['messages[0]', ['Hi']],
  ['messages[0]', [null]],
  ['messages[0].role', [{ content: 'Hi' }]],
  ['messages[0].role', [{ role: 'wizard', content: 'Hi' }]],
  ['messages[0].role', [{ role: ['user'], content: 'Hi' }]],
  ['messages[0].role', [{ role: 'tool', content: 'Hi' }], true],
  ['messages[0].role', [{ role: 'function', content: 'Hi' }], true],
  ['messages[0].tool_calls', [{ role: 'assistant', tool_calls: [{ id: 'x' }] }], true],
  ['messages[0].function_call', [{ role: 'assistant', content: '', function_call: {} }], true],
  ['messages[0].audio', [{ role: 'assistant', content: '', audio: { id: 'x' } }], true],
  ['messages[0].name', [{ role: 'user', content: 'a', name: 5 }]],
  ['messages[1].content', user(undefined)],
  ['messages[1].content', user(null)],
  ['messages[1].content', user(5)],
  ['messages[1].content', user({ type: 'text', text: 'a' })],
  ['messages[1].content[1]', user([{ type: 'text', text: 'a' }, 'b'])],
  ['messages[1].content[0]', user([{ type: 'text' }])],
  ['messages[1].content[0]', user([{ text: 'a' }])],
  ['messages[1].content[0].type', user([{ type: 'image_url', image_url: { url: 'x' } }]), true],
  ['messages[1].content[0].type', user([{ type: 'input_audio' }]), true],
  ['messages[1].content[0].type', user([{ type: 5 }]), true],
])('names %s in %j', (path, value, unsupported = false) => {
  try {
    readMessages(value)
  } catch (error) {
    expect(error).toBeInstanceOf(MessageError)
    expect(error).toMatchObject({ path, unsupported, code: 'INVALID_ARGUMENT' })
    expect((error as Error).message.startsWith(`${path} is `)).toBe(true)
    return
  }
  throw new Error('no error')
})

it('says what is wrong of a value nested as deeply as a body can be', () => {
  const deep = JSON.parse(`${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`)
  for (const messages of [deep, [deep], [{ role: deep, content: '' }], [{ role: 'user', content: deep }]]) {
    expect(() => readMessages(messages)).toThrow(MessageError)
  }
})
