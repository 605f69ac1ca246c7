// Progress: one line that is rewritten on a terminal, JSON lines elsewhere; as text, only permanent lines.
import { describe, expect, it } from 'vitest'
import { Output } from '../../../lib/cli/output.js'
import { RecordingStream } from './recording_stream.js'

const CLEAR = '\r\u001b[2K'

describe('output', () => {
  it('renews one line on a terminal, cut to its width, and puts events above it', () => {
    const stream = new RecordingStream(true, 11)
    const output = new Output(stream)
    output.event({ n: 0 }, 'first')
    output.progress({ n: 1 }, 'step 1 of very many')
    output.event({ n: 2 }, 'hello')
    output.end()
    output.end()
    expect(stream.text).toBe(`first\n${CLEAR}step 1 of ${CLEAR}hello\nstep 1 of ${CLEAR}`)
  })

  it('takes a terminal that does not know its width for one of 80 columns', () => {
    const stream = new RecordingStream(true, 0)
    new Output(stream).progress({}, 'a'.repeat(100))
    expect(stream.text).toBe(`${CLEAR}${'a'.repeat(79)}`)
  })

  it('writes every record as a JSON line elsewhere', () => {
    const stream = new RecordingStream(false)
    const output = new Output(stream)
    output.progress({ n: 1, text: 'a\nb' }, 'status')
    output.event({ n: 2 }, 'line')
    output.end()
    expect(stream.text).toBe('{"n":1,"text":"a\\nb"}\n{"n":2}\n')
  })

  it('writes JSON lines on a terminal if it is asked to', () => {
    const stream = new RecordingStream(true)
    const output = new Output(stream).asJson()
    output.progress({ n: 1 }, 'status')
    output.event({ n: 2 }, 'line')
    output.end()
    expect(stream.text).toBe('{"n":1}\n{"n":2}\n')
  })

  it('writes only lasting lines where text was asked for', () => {
    const stream = new RecordingStream(false)
    const output = new Output(stream, 'text')
    output.progress({ n: 1 }, 'status')
    output.event({ n: 2 }, 'line')
    output.end()
    expect(stream.text).toBe('line\n')
    expect(new Output(new RecordingStream(true), 'text').mode).toBe('terminal')
  })
})
