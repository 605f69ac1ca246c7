// Showing a generation: colours on a terminal, JSON lines elsewhere, digits under text; characters stay whole in all.
import pc from 'picocolors'
import { describe, expect, it } from 'vitest'
import { showGeneration, type TokenStream, textOverDepths } from '../../../lib/cli/generation_view.js'
import type { OutputMode } from '../../../lib/cli/output.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { RecordingStream } from './recording_stream.js'

const tokenizer = Tokenizer.byteLevel()

function streamOf(text: string, depths: number[]): TokenStream {
  const tokens = [...tokenizer.encode(text)].map((token, i) => ({ token, depth: depths[i]!, logprob: -i }))
  return {
    result: Promise.resolve({ finishReason: 'length' }),
    async *[Symbol.asyncIterator]() {
      yield* tokens
    },
  }
}

async function shown(
  mode: OutputMode,
  recursions: number | null,
  text = 'aé b',
  depths = [1, 2, 3, 1, 2],
): Promise<RecordingStream> {
  const stream = new RecordingStream(mode === 'terminal')
  const painters = pc.createColors(mode === 'terminal')
  await showGeneration(
    streamOf(text, depths),
    tokenizer.detokenizer(),
    { prompt: 'Hm', recursions, painters, mode },
    stream,
  )
  return stream
}

describe('a generation', () => {
  it('on a terminal is the prompt, then each token in the colour of its depth', async () => {
    const { text } = await shown('terminal', 3)
    const color = pc.createColors(true)
    expect(text.startsWith(`${color.dim('Hm')}${color.cyan('a')}`)).toBe(true)
    expect(text).toContain(`${color.yellow('é')}${color.cyan(' ')}${color.green('b')}`)
    expect(text).toMatch(/5 tokens.*ended by length.*mean depth 1\.80/)
  })

  it('without depths is plain text', async () => {
    const { text } = await shown('terminal', null)
    expect(text).toContain('aé b\n')
    expect(text).not.toContain('depth')
  })

  it('elsewhere is a JSON object per token and one for all', async () => {
    const records = (await shown('json', 3)).records
    expect(records.map((record) => record.type)).toEqual([...new Array(5).fill('token'), 'generation'])
    expect(records.slice(0, 3)).toEqual(
      [
        { type: 'token', token: 97, depth: 1, logprob: -0, text: 'a' },
        { type: 'token', token: 0xc3, depth: 2, logprob: -1, text: '' },
        { type: 'token', token: 0xa9, depth: 3, logprob: -2, text: 'é' },
      ].map((record) => JSON.parse(JSON.stringify(record))),
    )
    expect(records.at(-1)).toMatchObject({
      prompt: 'Hm',
      text: 'aé b',
      depths: [1, 2, 3, 1, 2],
      finishReason: 'length',
    })
  })

  it('that ends inside a character shows so', async () => {
    const tokens: TokenStream = {
      result: Promise.resolve({ finishReason: 'stop' }),
      async *[Symbol.asyncIterator]() {
        yield { token: 0xe2, depth: 1, logprob: 0 }
      },
    }
    const stream = new RecordingStream(false)
    await showGeneration(
      tokens,
      tokenizer.detokenizer(),
      { prompt: '', recursions: null, painters: pc, mode: 'json' },
      stream,
    )
    expect(stream.records.at(-1)).toMatchObject({ text: '\ufffd', finishReason: 'stop' })
  })

  it('as text has the depths under each line', async () => {
    const { text } = await shown('text', 3, 'ab\ncd', [1, 2, 1, 3, 3])
    expect(text.startsWith('Hmab\n  12\ncd\n33\n')).toBe(true)
    expect(textOverDepths('one\ntwo', [{ text: '!', depth: 12 }])).toBe('one\ntwo!\n   9')
  })
})
