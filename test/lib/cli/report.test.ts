// `mor report` without a model: the page and the SVG files of runs, text from outside as text, and outputs that are there already.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Output } from '../../../lib/cli/output.js'
import { type ReportCommandOptions, report } from '../../../lib/cli/report.js'
import { evaluationRecord, fallingRun, stepRecord, writeRun } from '../report/run_files.js'
import { RecordingStream } from './recording_stream.js'

// The first chart loads the library, which takes minutes on a machine that is busy.
vi.setConfig({ testTimeout: 300_000 })

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mor-report-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const at = (path: string) => join(folder, path)

async function run(
  folders: string[],
  changes: Partial<ReportCommandOptions> = {},
  signal = new AbortController().signal,
) {
  const stream = new RecordingStream(false)
  const options = { output: at('report.html'), device: 'cpu' as const, ...changes }
  await report(folders, options, new Output(stream), signal)
  return { records: stream.records, page: readFileSync(options.output, 'utf8') }
}

/** The texts of the cells of the page's first table, row by row. */
function table(page: string): string[][] {
  const [first] = page.match(/<table>[\s\S]*?<\/table>/)!
  return [...first.matchAll(/<tr>(.*?)<\/tr>/g)].map(([, row]) =>
    [...row!.matchAll(/<t[hd][^>]*>(.*?)<\/t[hd]>/g)].map(([, cell]) => cell!),
  )
}

describe('the page', () => {
  it('shows where runs ended, and every chart once, in itself and as files', async () => {
    const results = { servedTokensPerSecond: 1234, heldOut: { lossTopK: 1.25, lossThreshold: 1.3, bitsPerByte: 1.1 } }
    const folders = [
      writeRun(at('vanilla'), fallingRun(16)),
      writeRun(at('mor-2'), fallingRun(20, { depths: [50, 50] }), results),
    ]
    const { records, page } = await run(folders, { svg: at('charts') })
    expect(table(page)).toEqual([
      [
        'run',
        'steps',
        'tokens',
        'executed FLOPs',
        'time in steps',
        'training loss',
        'held-out loss, top-k',
        'held-out loss, threshold',
        'bits per byte',
        'held-out mean depth',
        'served tokens/s',
      ],
      [
        'vanilla',
        '16',
        '1.6K',
        '3.20e+7',
        '8s',
        meanLoss(16),
        '–',
        (4.2 / Math.sqrt(10)).toFixed(4),
        '2.0000',
        '1.00',
        '–',
      ],
      ['mor-2', '20', '2K', '4.00e+7', '10s', meanLoss(20), '1.2500', '1.3000', '1.1000', '1.50', '1.23K'],
    ])
    const names = ['loss-by-tokens', 'loss-by-flops', 'loss-by-seconds', 'quality-by-speed', 'mean-depth', 'shares-1']
    expect([...page.matchAll(/<figure id="(.*?)">/g)].map(([, name]) => name)).toEqual(names)
    expect(page.match(/<svg /g)).toHaveLength(names.length)
    expect(readdirSync(at('charts')).sort()).toEqual(names.map((name) => `${name}.svg`).sort())
    for (const name of names) expect(page).toContain(readFileSync(at(`charts/${name}.svg`), 'utf8'))
    expect(records).toEqual([
      { type: 'report', output: at('report.html'), svg: at('charts'), runs: 2, charts: 6, depthMaps: 0, notes: [] },
    ])
  })

  it('needs nothing else to be shown, and may run nothing', async () => {
    const { page } = await run([writeRun(at('a'), fallingRun(12, { depths: [1, 2] }), { servedTokensPerSecond: 5 })])
    expect(page).toContain(
      `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">`,
    )
    // Namespaces are names, not addresses that are read.
    const addresses = page
      .replaceAll(/xmlns(:xlink)?="[^"]*"/g, '')
      .match(/https?:[^"' ]*|\b(src|href)=|url\((?!#)|@import/g)
    expect(addresses).toBe(null)
    expect(page).not.toMatch(/<script/)
  })

  it('shows names as text, whatever is in them', async () => {
    const name = `<b on="a('1')">&amp;`
    const { page } = await run([writeRun(at(name), fallingRun(12, { depths: [1, 1] }), { servedTokensPerSecond: 5 })])
    expect(page).not.toContain('<b ')
    expect(page).toContain('<title>Training runs: &lt;b on=&quot;a(&#39;1&#39;)&quot;&gt;&amp;amp;</title>')
    expect(table(page)[1]![0]).toBe('&lt;b on=&quot;a(&#39;1&#39;)&quot;&gt;&amp;amp;')
    // The legend and the label of the line, as the chart library escapes them.
    const [chart] = page.match(/<figure id="loss-by-tokens">[\s\S]*?<\/figure>/)!
    expect(chart).toMatch(/<text[^>]*>&lt;b on="a\('1'\)"&gt;&amp;amp;<\/text>/)
    expect(chart).toMatch(/<path aria-label="&lt;b on=&quot;a\('1'\)&quot;&gt;&amp;amp;" /)
  })

  it('says what the runs lack', async () => {
    const lines = [
      stepRecord({ step: 1 }),
      { type: 'refused', step: 1, message: 'loss is NaN' },
      stepRecord({ step: 2, lmLoss: null }),
      evaluationRecord(2, { lmLoss: null, bitsPerByte: null }),
      stepRecord({ step: 5 }),
    ]
    writeRun(at('a'), lines)
    const settings = { steps: 100 }
    writeFileSync(at('a/run.json'), JSON.stringify({ settings, positions: [] }))
    writeFileSync(at('text.txt'), 'Some text.')
    const { page, records } = await run([at('a')], { text: at('text.txt') })
    const notes = [
      'a is at step 5 of 100',
      'a: steps missing in metrics.jsonl: 2; tokens, FLOPs and seconds are too low from step 5 on',
      'a: steps refused because loss or gradient was not finite: 1',
      'a: losses left out because they are no finite numbers: 2',
      'a has no checkpoint yet, and so no depth map',
    ]
    expect(records.at(-1)).toMatchObject({ notes, depthMaps: 0 })
    for (const note of notes) expect(page).toContain(`<li>${note}</li>`)
    expect(table(page)[0]).not.toContain('bits per byte')
    expect(page).not.toContain('NaN')
    expect(page).not.toContain('<details')
  })
})

it.each([
  ['has taken all its steps', { settings: { steps: 3 }, positions: [] }],
  ['has a damaged run.json', {}],
])('a run that %s is said to be at no step', async (_, record) => {
  writeRun(at('a'), fallingRun(3))
  writeFileSync(at('a/run.json'), JSON.stringify(record))
  expect((await run([at('a')])).records.at(-1)).toMatchObject({ notes: [] })
})

describe('outputs', () => {
  it('are never overwritten', async () => {
    const folders = [writeRun(at('a'), fallingRun(3))]
    writeFileSync(at('report.html'), 'mine')
    await expect(run(folders, { svg: at('charts') })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/report.html is there already: give another output, or remove it/),
    })
    expect(readFileSync(at('report.html'), 'utf8')).toBe('mine')
    expect(existsSync(at('charts'))).toBe(false)
    mkdirSync(at('charts'))
    writeFileSync(at('charts/mine.svg'), '')
    await expect(run(folders, { output: at('other.html'), svg: at('charts') })).rejects.toThrow(
      /charts is there already, with mine.svg in it/,
    )
    expect(existsSync(at('other.html'))).toBe(false)
    mkdirSync(at('empty'))
    await expect(run(folders, { output: at('empty'), svg: at('pictures') })).rejects.toThrow(
      /empty is a folder, but a file is to be made: give the file's name/,
    )
    expect(existsSync(at('pictures'))).toBe(false)
  })

  it('have a place each', async () => {
    const folders = [writeRun(at('a'), fallingRun(3))]
    await expect(run(folders, { output: at('both'), svg: `${at('both')}/` })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(
        /--output and --svg are both .*both: give the folder of the pictures another name/,
      ),
    })
    expect(existsSync(at('both'))).toBe(false)
  })

  it('are not there where the page cannot be written', async () => {
    const folders = [writeRun(at('a'), fallingRun(3))]
    writeFileSync(at('file'), '')
    await expect(run(folders, { output: at('file/report.html'), svg: at('charts') })).rejects.toMatchObject({
      code: 'IO_ERROR',
    })
    expect(existsSync(at('charts'))).toBe(false)
  })

  it('may lie in folders that are made for them, the page among the charts too', async () => {
    const folders = [writeRun(at('a'), fallingRun(3))]
    await run(folders, { output: at('new/charts/report.html'), svg: at('new/charts') })
    expect(readdirSync(at('new'))).toEqual(['charts'])
    expect(readdirSync(at('new/charts'))).toHaveLength(4)
  })

  it('are not there after an error or an abort', async () => {
    const good = writeRun(at('a'), fallingRun(3))
    const bad = writeRun(at('b'), [stepRecord({ step: 1 }), '{"type":', stepRecord({ step: 2 })])
    await expect(run([good, bad], { svg: at('charts') })).rejects.toThrow(/b\/metrics.jsonl, line 2 is not JSON/)
    await expect(run([good], { text: at('missing.txt') })).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringMatching(/missing.txt/),
    })
    await expect(run([good], { svg: at('charts') }, AbortSignal.abort())).rejects.toMatchObject({ code: 'ABORTED' })
    expect(readdirSync(folder).sort()).toEqual(['a', 'b'])
  })
})

/** Of the last 20 steps of `fallingRun(count)`. */
function meanLoss(count: number): string {
  let sum = 0
  for (let step = 1; step <= count; step++) sum += 4 / Math.sqrt(step)
  return (sum / count).toFixed(4)
}
