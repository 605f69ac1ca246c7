// `mor prepare` as a process: patterns, archives and standard input become a dataset; an interrupted run is gone on with.
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { type DatasetInfo, verifyDataset } from '../../../lib/dataset.js'
import { mor, morProcess } from './process.js'

const newFolder = () => mkdtempSync(join(tmpdir(), 'mor-prepare-'))
const recordsOf = (stdout: string): Record<string, unknown>[] =>
  stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
const infoOf = (folder: string): DatasetInfo => JSON.parse(readFileSync(join(folder, 'dataset.json'), 'utf8'))

describe('mor prepare', { timeout: 240_000 }, () => {
  it('takes a pattern and standard input, writes JSON lines, and verifies what is complete', async () => {
    const folder = newFolder()
    writeFileSync(join(folder, 'b.jsonl.gz'), gzipSync('{"body":"second"}\n'))
    writeFileSync(join(folder, 'a.jsonl'), '{"body":"first"}\n')
    const out = join(folder, 'out')
    const args = ['--output', out, '--text-field', 'body', '--validation-fraction', '0']
    const files = ['prepare', join(folder, '*.jsonl*'), ...args]
    const made = await mor(...files)
    expect(made).toMatchObject({ code: 0, stderr: '' })
    expect(recordsOf(made.stdout).at(-1)).toEqual({ type: 'dataset', folder: out, train: 13, validation: 0 })
    expect(infoOf(out).sources.map(({ path }) => path)).toEqual(
      ['a.jsonl', 'b.jsonl.gz'].map((name) => join(folder, name)),
    )
    const { file } = infoOf(out).splits.train.shards[0]!
    expect(readFileSync(join(out, file)).filter((_, i) => i % 2 === 0)).toEqual(
      Buffer.concat([Buffer.from('first'), Buffer.of(0), Buffer.from('second'), Buffer.of(0)]),
    )
    expect(recordsOf((await mor(...files)).stdout)).toEqual([
      { type: 'dataset', folder: out, train: 13, validation: 0 },
    ])
    writeFileSync(join(out, file), Buffer.alloc(26))
    expect(await mor(...files)).toMatchObject({ code: 1, stderr: expect.stringContaining(`${file} is damaged`) })

    const piped = await morProcess(['prepare', '-', '--format', 'jsonl', ...args], (child) =>
      child.stdin!.end('{"body":"from a pipe"}\n'),
    )
    expect(piped).toMatchObject({ code: 0, stderr: '' })
    expect(infoOf(out).splits.train).toMatchObject({ tokens: 12, documents: 1 })
    expect(infoOf(out).sources).toEqual([{ path: '-', bytes: 0, modified: 0 }])
  })

  it('says what is wrong with a text that is not there, and with an output that is a file', async () => {
    const folder = newFolder()
    const [text, missing] = [join(folder, 'text.txt'), join(folder, 'missing.txt')]
    writeFileSync(text, 'some text')
    expect(await mor('prepare', missing, '--output', join(folder, 'out'))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`there is no file or folder ${missing} (ENOENT): check the name`),
    })
    expect(await mor('prepare', text, '--output', text)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`a file is where ${text} needs a folder (ENOTDIR): give another folder`),
    })
    expect(readFileSync(text, 'utf8')).toBe('some text')
  })

  it('goes on after Ctrl-C and after it was killed', async () => {
    const folder = newFolder()
    const source = join(folder, 'a.txt')
    writeFileSync(source, 'a line of a long text\n'.repeat(1_000_000))
    const out = join(folder, 'out')
    const args = ['prepare', source, '--output', out, '--validation-fraction', '0']
    const record = join(`${out}.partial`, 'unfinished.json')
    for (const signal of ['SIGKILL', 'SIGINT'] as const) {
      const ended = await morProcess(args, (child) => {
        const before = existsSync(record) ? readFileSync(record, 'utf8') : ''
        const timer = setInterval(() => {
          try {
            if (readFileSync(record, 'utf8') === before) return
          } catch {
            return
          }
          clearInterval(timer)
          child.kill(signal)
        }, 5)
        child.on('exit', () => clearInterval(timer))
      })
      // A fast machine may be done before the signal comes.
      if (ended.code === 0) continue
      if (signal === 'SIGINT') {
        expect(ended.code).toBe(130)
        expect(recordsOf(ended.stdout).at(-1)).toMatchObject({ type: 'unfinished' })
      }
      expect(existsSync(record)).toBe(true)
    }
    expect(await mor(...args)).toMatchObject({ code: 0, stderr: '' })
    const info = await verifyDataset(out)
    expect(info.splits.train).toMatchObject({ tokens: 22_000_001, bytes: 22_000_000, documents: 1 })
  })

  it.each([
    ['', 'standard input holds no text'],
    ['{"text":"a"}\nno JSON\n', 'standard input, line 2 is not JSON'],
    ['\0', 'standard input: byte 0 is zero'],
    ['%PDF-1.4', 'standard input is a PDF document'],
  ])('calls standard input by its name: %j', async (text, message) => {
    const args = ['prepare', '-', '--format', 'jsonl', '--output', join(newFolder(), 'out')]
    const ended = await morProcess(args, (child) => child.stdin!.end(text))
    expect(ended).toMatchObject({ code: 1, stderr: expect.stringContaining(`] ${message}`) })
  })

  it('says what was wrong with an input, and leaves nothing', async () => {
    const folder = newFolder()
    writeFileSync(join(folder, 'a.txt.gz'), gzipSync('text').subarray(0, 12))
    const out = join(folder, 'out')
    expect(await mor('prepare', join(folder, 'a.txt.gz'), '--output', out)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/a\.txt\.gz is compressed with gzip, and damaged or cut short near byte 12/),
    })
    expect(await mor('prepare', join(folder, '*.md'), '--output', out)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('no file has a name like'),
    })
    expect(existsSync(out)).toBe(false)
    expect(existsSync(`${out}.partial`)).toBe(false)
  })
})
