// Depths of a text on the real addon: those of the model's own pass, in windows where the text is longer than the context.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { Output } from '../../../lib/cli/output.js'
import { report } from '../../../lib/cli/report.js'
import { Model } from '../../../lib/model.js'
import { type DeepToken, mapDepths, readBeginning } from '../../../lib/report/depth_map.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { RecordingStream } from '../cli/recording_stream.js'
import { fallingRun, writeRun } from './run_files.js'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

const { signal } = new AbortController()
const load = { device: 'cpu', dtype: 'float32', signal } as const
const tokenizer = Tokenizer.byteLevel()
const CONTEXT = 64

let folder: string
const checkpoint = (run: string) => join(folder, run, 'checkpoint')

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mor-depths-'))
  const shape = {
    vocab_size: tokenizer.vocabSize,
    hidden_size: 16,
    intermediate_size: 32,
    num_hidden_layers: 5,
    num_attention_heads: 2,
    max_position_embeddings: CONTEXT,
  }
  const configs = {
    mor: { ...shape, num_recursions: 3, router: { type: 'expert_choice' as const } },
    vanilla: shape,
  }
  for (const [name, config] of Object.entries(configs)) {
    writeRun(join(folder, name), fallingRun(3))
    // Wide initial weights make routers that disagree about tokens.
    await using model = await Model.create({ ...config, initializer_range: 0.5 }, { device: 'cpu', tokenizer, seed: 3 })
    await model.save(checkpoint(name))
  }
})
afterAll(() => rmSync(folder, { recursive: true }))

/** Depths by one pass of the model, behind the end token. */
async function depthsOf(text: string): Promise<number[]> {
  await using model = await Model.load(checkpoint('mor'), load)
  const ids = tokenizer.encode(text)
  const { depths } = await model.forward([[tokenizer.eosTokenId!, ...ids]], { positions: 'last' })
  return [...depths.subarray(1)]
}

const textOf = (tokens: DeepToken[]) => tokens.map(({ text }) => text).join('')
const depths = (tokens: DeepToken[]) => tokens.map(({ depth }) => depth)

it('are those of the model’s own pass', async () => {
  const text = 'Call me Ishmael – some years ago.'
  const tokens = await mapDepths(checkpoint('mor'), text, load)
  expect(textOf(tokens)).toBe(text)
  expect(tokens).toHaveLength(Buffer.byteLength(text))
  expect(depths(tokens)).toEqual(await depthsOf(text))
  expect(new Set(depths(tokens)).size).toBeGreaterThan(1)
})

it.each([CONTEXT - 1, CONTEXT, CONTEXT + 1, 3 * CONTEXT + 17])(
  'of a text of %d tokens come from the first of the windows that hold the token',
  async (length) => {
    const text = Array.from({ length }, (_, i) => 'abcdefghij klm nop'[(i * i + 3 * i) % 18]).join('')
    const tokens = await mapDepths(checkpoint('mor'), text, load)
    expect(textOf(tokens)).toBe(text)
    await using model = await Model.load(checkpoint('mor'), load)
    const ids = [tokenizer.eosTokenId!, ...tokenizer.encode(text)]
    const expected: number[] = []
    for (let end = Math.min(CONTEXT, ids.length); ; end = Math.min(end + CONTEXT / 2, ids.length)) {
      const { depths: read } = await model.forward([ids.slice(Math.max(0, end - CONTEXT), end)], { positions: 'last' })
      expected.push(...read.subarray(read.length - (end - expected.length)))
      if (end === ids.length) break
    }
    expect(depths(tokens)).toEqual(expected.slice(1))
  },
)

it('a text is cut between characters, and is the first document of its file', async () => {
  const path = join(folder, 'text.txt')
  writeFileSync(path, `${'x'.repeat(3999)}𝒳 and more`)
  expect(await readBeginning(path, signal)).toBe('x'.repeat(3999))
  writeFileSync(path, `${'x'.repeat(3998)}𝒳 and more`)
  expect(await readBeginning(path, signal)).toBe(`${'x'.repeat(3998)}𝒳`)
  const lines = join(folder, 'text.jsonl')
  writeFileSync(lines, '{"text":"one"}\n{"text":"two"}\n')
  expect(await readBeginning(lines, signal)).toBe('one')
})

it('stand on the page, token by token, with the words below', async () => {
  const text = 'The <b>whale</b> & the\nwhale'
  writeFileSync(join(folder, 'moby.txt'), text)
  const stream = new RecordingStream(false)
  const runs = ['mor', 'vanilla'].map((name) => join(folder, name))
  const output = join(folder, 'report.html')
  const options = { ...load, signal: undefined, output, text: join(folder, 'moby.txt') }
  await report(runs, options, new Output(stream), signal)
  expect(stream.records.at(-1)).toMatchObject({
    depthMaps: 1,
    notes: ['vanilla has no depth map, since all tokens of its model run alike'],
  })
  const page = readFileSync(output, 'utf8')
  const [, shown] = page.match(/<div class="text">(.*?)<\/div>/s)!
  const spans = [...shown!.matchAll(/<span class="token(?: line-end)?" data-depth="(\d)">([^<]*)<\/span>/g)]
  const entities: Record<string, string> = { '&lt;': '<', '&gt;': '>', '&amp;': '&' }
  expect(spans.map(([, , escaped]) => escaped!.replace(/&\w+;/, (entity) => entities[entity]!)).join('')).toBe(text)
  expect(spans.map(([, depth]) => Number(depth))).toEqual(await depthsOf(text))
  expect(page).toMatch(/<th scope="row">whale<\/th><td>[123]\.\d\d<\/td><td>2<\/td>/)
  expect(page).toMatch(/<th scope="row">mor<\/th><td>MoR, N = 3<\/td>/)
})

it('stop when they are told to, and name a checkpoint that is damaged', async () => {
  await expect(mapDepths(checkpoint('mor'), 'text', { ...load, signal: AbortSignal.abort() })).rejects.toMatchObject({
    code: 'ABORTED',
  })
  writeFileSync(join(checkpoint('vanilla'), 'config.json'), '{')
  await expect(
    report(
      [join(folder, 'vanilla')],
      { output: join(folder, 'x.html') },
      new Output(new RecordingStream(false)),
      signal,
    ),
  ).rejects.toThrow(/config.json is not JSON/)
})
