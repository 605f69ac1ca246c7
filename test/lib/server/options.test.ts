// The options of a server: defaults, and what is refused.
import { describe, expect, it } from 'vitest'
import { resolveServerOptions } from '../../../lib/server/options.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { ScriptedEngine } from './scripted_engine.js'

const engine = new ScriptedEngine()
const needed = { engine, tokenizer: Tokenizer.byteLevel(), modelName: 'm' }

describe('resolveServerOptions', () => {
  it('fills in limits that fit the model', () => {
    expect(resolveServerOptions(needed)).toEqual({
      ...needed,
      apiKey: null,
      corsOrigin: [],
      bodyLimitBytes: 1_048_576,
      maxPromptTokens: 63,
      maxPromptCharacters: 1008,
      maxCompletions: 1024,
      chatTemplate: null,
      strict: false,
      traces: false,
      stallTimeoutMs: 30_000,
      drainTimeoutMs: 30_000,
      logger: false,
    })
    expect(resolveServerOptions({ ...needed, maxPromptTokens: 10 }).maxPromptCharacters).toBe(160)
  })

  it.each([
    ['modelName', { modelName: '' }],
    ['apiKey', { apiKey: '' }],
    ['clients cannot send in a header', { apiKey: 'sécret' }],
    ['clients cannot send in a header', { apiKey: 'secret\n' }],
    ['clients cannot send in a header', { apiKey: ' secret' }],
    ['https://a.example', { corsOrigin: 'https://a.example/' }],
    ['corsOrigin', { corsOrigin: ['https://a.example', 'a.example'] }],
    ['corsOrigin', { corsOrigin: ['https://A.example'] }],
    ['corsOrigin', { corsOrigin: ['http://a.example:80'] }],
    ['corsOrigin', { corsOrigin: ['null'] }],
    ['corsOrigin', { corsOrigin: 3 }],
    ['corsOrigin', { corsOrigin: [3] }],
    ['maxPromptTokens', { maxPromptTokens: 64 }],
    ['maxCompletions', { maxCompletions: 0 }],
    ['stallTimeoutMs', { stallTimeoutMs: 0.5 }],
    ['drainTimeoutMs', { drainTimeoutMs: -1 }],
    ['drainTimeoutMs', { drainTimeoutMs: 2 ** 31 - 2000 }],
    ['apikey', { apikey: 'secret' }],
    ['createServer: engine is undefined; give an Engine', { engine: undefined }],
    ['engine is {}; give an Engine', { engine: Promise.resolve(needed.engine) }],
    ['engine is "a folder"; give an Engine', { engine: 'a folder' }],
    ['tokenizer is missing', { tokenizer: undefined }],
    ['give Tokenizer.byteLevel', { tokenizer: Promise.resolve(needed.tokenizer) }],
    ['give what ChatTemplate.load resolves to', { chatTemplate: Promise.resolve(null) }],
  ])('refuses a wrong %s', (name, wrong) => {
    expect(() => resolveServerOptions({ ...needed, ...(wrong as object) })).toThrow(name)
  })

  it('takes a key with spaces inside, and shows none that is wrong', () => {
    expect(resolveServerOptions({ ...needed, apiKey: 'a b~!' }).apiKey).toBe('a b~!')
    expect(() => resolveServerOptions({ ...needed, apiKey: 'sécret' })).not.toThrow('cret')
  })

  it('takes origins as browsers send them', () => {
    const origins = [
      '*',
      'https://a.example',
      'http://localhost:5173',
      'http://[::1]:8000',
      'chrome-extension://abcdef',
    ]
    expect(resolveServerOptions({ ...needed, corsOrigin: origins }).corsOrigin).toEqual(origins)
    expect(resolveServerOptions({ ...needed, corsOrigin: '*' }).corsOrigin).toEqual(['*'])
  })

  it('refuses a tokenizer larger than the model', () => {
    const tokenizer = Object.assign(Object.create(Tokenizer.byteLevel()), { name: 'big', minVocabSize: 321 })
    expect(() => resolveServerOptions({ ...needed, tokenizer: tokenizer as Tokenizer })).toThrow(/big has 321.*320/)
  })

  it('takes a tokenizer with added tokens that the model does not have', () => {
    const tokenizer = Object.assign(Object.create(Tokenizer.byteLevel()), { vocabSize: 321 }) as Tokenizer
    expect(resolveServerOptions({ ...needed, tokenizer }).tokenizer).toBe(tokenizer)
  })
})
