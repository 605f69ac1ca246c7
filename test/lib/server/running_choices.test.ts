// The completions of a request while they run, against a scripted engine.
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import type { CompletionObserver } from '../../../lib/server/metrics.js'
import { collectChoices, runChoices, startChoices } from '../../../lib/server/running_choices.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { answerText, ScriptedEngine } from './scripted_engine.js'

const { signal } = new AbortController()
const unobserved: CompletionObserver = { token: () => {}, finished: () => {} }

/** The choices of one prompt, on an engine that answers with `text`. */
function start(text: string, observer = unobserved) {
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

it('tells when tokens came, not when a slow client took them', async () => {
  const times: number[] = []
  const began = performance.now()
  const choices = start('abc', {
    token: (_, came) => times.push(came - began),
    finished: (_reason, _prompt, _max, ended) => times.push(ended - began),
  })
  await runChoices(choices, () => sleep(100))
  expect(performance.now() - began).toBeGreaterThan(390)
  expect(times).toHaveLength(4)
  expect(Math.max(...times)).toBeLessThan(200)
})
