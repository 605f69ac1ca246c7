// The AI SDK over a real engine: the same text as the engine gives. The addon must have been built.
import { generateText, streamText } from 'ai'
import { expect, it } from 'vitest'
import { createLanguageModel } from '../../../lib/ai_sdk/index.js'
import { Engine } from '../../../lib/engine.js'
import { templateOf } from '../chat/load_template.js'
import { turns } from '../chat/templates.js'
import { makeTinyModel } from '../server/tiny_model.js'

it('generates and streams what the engine does', async () => {
  await using model = await makeTinyModel()
  await using engine = new Engine(model, { chatTemplate: await templateOf(turns) })
  const settings = { temperature: 0.7, seed: 4 }
  const expected = await engine.chat([{ role: 'user', content: 'Hi' }], { ...settings, maxTokens: 40 }).result
  const asked = { model: createLanguageModel(engine), prompt: 'Hi', maxOutputTokens: 40, ...settings }

  const whole = await generateText(asked)
  expect([whole.text, whole.usage.outputTokens]).toEqual([expected.text, expected.tokens.length])
  expect(whole.providerMetadata).toEqual({ mor: { depths: expected.depths } })
  expect(whole.finishReason).toBe(expected.finishReason)

  const streams = Array.from({ length: 8 }, async () => {
    let text = ''
    for await (const piece of streamText(asked).textStream) text += piece
    return text
  })
  expect(await Promise.all(streams)).toEqual(streams.map(() => expected.text))
  expect(engine.stats()).toMatchObject({ running: 0, waiting: 0, kvBlocksUsed: 0 })
})
