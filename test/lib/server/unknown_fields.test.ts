// Fields that the server does not act on: refused where it is strict, else ignored and counted by the API they belong to.
import { expect, it } from 'vitest'
import type { JsonObject } from '../../../lib/check.js'
import { ApiError } from '../../../lib/server/api_error.js'
import { chatFields } from '../../../lib/server/chat_request.js'
import { completionFields } from '../../../lib/server/completion_request.js'
import { checkFields, type FieldClass } from '../../../lib/server/unknown_fields.js'

const known = new Set(['model', 'prompt', 'temperature', 'max_tokens'])

function classesOf(body: JsonObject, strict = false): FieldClass[] {
  const classes: FieldClass[] = []
  checkFields(body, known, strict, (name) => classes.push(name))
  return classes
}

function refusalOf(body: JsonObject): ApiError {
  try {
    classesOf(body, true)
  } catch (error) {
    return error as ApiError
  }
  throw new Error('no error')
}

it('ignores them, and says whose they are', () => {
  const body = { model: 'm', temprature: 1, guided_grammar: 'x', best: 2, skip_special_tokens: true, verbosity: 'low' }
  expect(classesOf(body)).toEqual(['unknown', 'unknown', 'unknown', 'vllm', 'openai'])
  expect(classesOf(JSON.parse('{ "__proto__": { "n": 5 } }'))).toEqual(['unknown'])
})

it('counts a field that is null as left out', () => {
  expect(classesOf({ model: 'm', guided_grammar: null, best: null })).toEqual([])
  expect(classesOf({ model: 'm', guided_grammar: null, best: null }, true)).toEqual([])
})

it('counts fields of another route of OpenAI as OpenAI’s', () => {
  const classes: FieldClass[] = []
  checkFields({ suffix: 'x' }, chatFields, false, (name) => classes.push(name))
  checkFields({ reasoning_effort: 'low' }, completionFields, false, (name) => classes.push(name))
  expect(classes).toEqual(['openai', 'openai'])
})

it('takes fields of OpenAI that change no token, strict or not', () => {
  const body = {
    model: 'm',
    store: true,
    metadata: { a: 'b' },
    user: 'me',
    service_tier: 'auto',
    safety_identifier: 'x',
  }
  expect(classesOf(body)).toEqual([])
  expect(classesOf(body, true)).toEqual([])
})

it.each([
  ['temprature', { temprature: 1 }],
  ['guided_grammar', { guided_grammar: 'x' }],
  ['__proto__', JSON.parse('{ "__proto__": { "n": 5 } }')],
])('refuses %s where it is strict', (param, body) => {
  const error = refusalOf(body)
  expect(error).toBeInstanceOf(ApiError)
  expect(error).toMatchObject({ status: 400, param, code: 'unknown_field' })
  expect(error.message).toContain(param)
})

it('names the field that is near', () => {
  expect(refusalOf({ max_token: 5 }).message).toContain('max_tokens')
})

it('is quick with names that are as long, or as many, as a body can hold', () => {
  const started = process.cpuUsage() // not the time that a busy machine takes
  expect(refusalOf({ ['x'.repeat(1_000_000)]: 1 })).toMatchObject({ status: 400 })
  const many = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`x${i}`, 1]))
  expect(classesOf(many)).toHaveLength(100_000)
  expect(process.cpuUsage(started).user / 1000).toBeLessThan(2000)
})
