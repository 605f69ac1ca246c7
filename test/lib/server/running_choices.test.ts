// The completions of a request while they run, against a scripted engine.
import { expect, it } from 'vitest'
import { collectChoices, startChoices } from '../../../lib/server/running_choices.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { answerText, ScriptedEngine } from './scripted_engine.js'

const { signal } = new AbortController()
const observer = { token: () => {}, finished: () => {} }

/** The choices of one prompt, on an engine that answers with `text`. */
function start(text: string) {
  const parts = { engine: new ScriptedEngine(answerText(text)), tokenizer: Tokenizer.byteLevel() }
  const wanted = { prompts: [[97]], perPrompt: 1, field: 'prompt', maxTokens: 8, stop: [], minTokens: 0 }
  const functions = { optionsOf: () => ({ maxTokens: 8 }), observe: () => observer }
  return startChoices(parts, { ...wanted, ...functions }, signal)
}

it('collects an opening of more tokens than a call takes arguments', async () => {
  const choices = start('xy')
  const token = { token: 97, text: '', offset: 0, logprob: -1, topLogprobs: null }
  choices[0]!.opening = Promise.resolve({ text: 'a', tokens: Array(300_000).fill(token) })
  const { finished, tokens } = await collectChoices(choices, signal)
  expect([finished[0]!.text, finished[0]!.tokens.length, tokens]).toEqual(['axy', 300_002, 2])
})
