// The page in a browser, on a scripted engine: what it shows of tokens, depths and the engine, and that it only shows it.
import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { createServer, type ServerOptions } from '../../../lib/server/index.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { viewPlugin } from '../../../lib/view/plugin.js'
import { ScriptedEngine, type ScriptedRequest } from '../server/scripted_engine.js'
import { findChromium, launch } from './chromium.js'

/** The globals that functions running in the page use. */
declare const getComputedStyle: (
  element: unknown,
  pseudo?: string,
) => { color: string; backgroundColor: string; content: string }
declare const OffscreenCanvas: new (
  width: number,
  height: number,
) => {
  getContext(
    type: '2d',
    options: { willReadFrequently: boolean },
  ): {
    fillStyle: string
    fillRect(...box: number[]): void
    getImageData(...box: number[]): { data: Uint8ClampedArray }
  }
}

const executable = findChromium()
const TIMEOUT = 60_000

let browser: Browser
let page: Page
let problems: string[]
let close: () => Promise<void>

beforeAll(async () => {
  if (executable !== null) browser = await launch(executable)
}, TIMEOUT)
afterAll(() => browser?.close())
afterEach(async () => {
  await page.close()
  await close()
  expect(problems).toEqual([])
})

/** Counts the tokens that it generates, as an engine does. */
class CountingEngine extends ScriptedEngine {
  tokens = 0

  override stats() {
    return { ...super.stats(), tokensGenerated: this.tokens, kvBytesUsed: 3e6, kvBytesVanilla: 4e6 }
  }
}

/** Opens the page; each request is answered by `script`. */
async function open(
  script: (request: ScriptedRequest) => void,
  options: Partial<ServerOptions> = {},
  config: object = {},
) {
  const engine = new CountingEngine(script)
  Object.assign(engine.model.config, config)
  const parts = { engine, tokenizer: Tokenizer.byteLevel(), modelName: 'tiny' }
  const app = createServer({ ...parts, drainTimeoutMs: 0, ...options })
  await app.register(viewPlugin, parts)
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  close = () => app.close()
  page = await browser.newPage()
  page.setDefaultTimeout(10_000)
  problems = []
  page.on('pageerror', (error) => problems.push(error.message))
  page.on('console', (message) => {
    if (message.type() === 'error' && !message.text().includes('401')) problems.push(message.text())
  })
  await page.goto(`${url}/`)
  return engine
}

/** Generates `text`; its bytes take the depths `depths` in turn. */
function write(text: string, depths: readonly number[] = [1, 2, 3]) {
  return ({ generation }: ScriptedRequest) => {
    for (const [i, token] of Buffer.from(text).entries())
      generation.push({ token, depth: depths[i % depths.length]!, logprob: Math.log(0.5) })
    generation.finish('length')
  }
}

async function generate(prompt: string): Promise<void> {
  await page.getByLabel('Prompt').fill(prompt)
  await page.getByRole('button', { name: 'Generate' }).click()
}

const summary = () => page.getByRole('status')
const text = () => page.locator('#text')
const tokens = () => text().locator('.token')

/** Computed colours as [red, green, blue], 0 to 255. */
function colors(selector: string): Promise<{ ink: number[]; background: number[] }[]> {
  return page.locator(selector).evaluateAll((elements) => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true })
    const rgb = (color: string) => {
      canvas.fillStyle = color
      canvas.fillRect(0, 0, 1, 1)
      return [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)]
    }
    return elements.map((element) => {
      const { color, backgroundColor } = getComputedStyle(element)
      return { ink: rgb(color), background: rgb(backgroundColor) }
    })
  })
}

/** Contrast ratio of the Web Content Accessibility Guidelines 2.2. */
function contrast(a: readonly number[], b: readonly number[]): number {
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x)
  return (light! + 0.05) / (dark! + 0.05)
}

function luminance(rgb: readonly number[]): number {
  const [r, g, b] = rgb.map((value) => {
    const share = value / 255
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!
}

describe.skipIf(executable === null)('the page', { timeout: TIMEOUT }, () => {
  it('shades each token by its depth, and counts depths', async () => {
    const engine = await open(write('abcd'))
    await generate('Once')
    await expect.poll(() => summary().textContent()).toMatch(/^4 tokens, [\d.]+ tokens\/s, ended by length$/)
    expect(await text().textContent()).toBe('Onceabcd')
    expect(await tokens().evaluateAll((all) => all.map((one) => [one.textContent, one.title]))).toEqual([
      ['a', 'depth 1, probability 50%'],
      ['b', 'depth 2, probability 50%'],
      ['c', 'depth 3, probability 50%'],
      ['d', 'depth 1, probability 50%'],
    ])
    const shades = (await colors('#text .token')).map(({ background }) => background.join())
    expect(shades[3]).toBe(shades[0])
    expect(new Set(shades).size).toBe(3)
    expect((await colors('#legend .swatch')).map(({ background }) => background.join())).toEqual(shades.slice(0, 3))

    const histogram = page.getByRole('table', { name: 'Tokens of the text by depth' })
    expect((await histogram.locator('tbody').innerText()).split(/\s+/)).toEqual([
      '1',
      '2',
      '50%',
      '2',
      '1',
      '25%',
      '3',
      '1',
      '25%',
    ])
    expect(await page.locator('#mean').textContent()).toBe('1.75')
    expect(engine.requests[0]!.options).toMatchObject({ maxTokens: 63, temperature: 0.8 })
  })

  it('counts tokens that ran no recursion apart', async () => {
    await open(write('abcd', [0, 2]))
    await generate('')
    await expect.poll(() => summary().textContent()).toMatch(/^4 tokens/)
    const cells = (await page.locator('#histogram tbody').innerText()).split(/\s+/)
    expect(cells).toEqual(['0', '2', '50%', '1', '0', '0.0%', '2', '2', '50%', '3', '0', '0.0%'])
    expect(await page.locator('#mean').textContent()).toBe('1.00')
  })

  it('is readable in every shade, light and dark', async () => {
    await open(write('abc'))
    await generate('')
    await expect.poll(() => tokens().count()).toBe(3)
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme })
      const found = [...(await colors('#text .token')), ...(await colors('#legend .swatch'))]
      expect(found).toHaveLength(6)
      for (const { ink, background } of found) expect(contrast(ink, background)).toBeGreaterThan(4.5)
      const paper = (await colors('body'))[0]!.background
      for (const { ink } of await colors('#summary, #legend, #model, #failure'))
        expect(contrast(ink, paper)).toBeGreaterThan(4.5)
    }
  })

  it('shows what a model writes as text, whatever it is', async () => {
    const hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script>&amp;\n'
    await open(write(hostile))
    await generate('<b>bold</b>')
    await expect.poll(() => summary().textContent()).toContain('ended')
    expect(await text().textContent()).toBe(`<b>bold</b>${hostile}`)
    expect(await text().locator('img, script, b').count()).toBe(0)
    expect(await page.title()).toBe('Recursion depth')
  })

  it('keeps characters whole and says depth in numbers on request', async () => {
    await open(write('é', [3, 2]))
    await generate('')
    await expect.poll(() => tokens().evaluateAll((all) => all.map((one) => one.textContent))).toEqual(['', 'é'])
    const numbers = () => tokens().evaluateAll((all) => all.map((one) => getComputedStyle(one, '::after').content))
    expect(await numbers()).toEqual(['none', 'none'])
    await page.getByLabel('Depth as a number after each token').check()
    expect(await numbers()).toEqual(['"3"', '"2"'])
  })

  it('shows what the engine does: throughput, requests, KV cache', async () => {
    const engine = await open(() => {})
    await expect.poll(() => page.locator('#requests').textContent()).toBe('0 running, 2 waiting, 0 finished')
    await expect.poll(() => page.locator('#throughput').textContent()).toBe('0.0 tokens/s')
    const timer = setInterval(() => engine.tokens++, 10)
    const rate = async () => Number.parseFloat((await page.locator('#throughput').textContent())!)
    await expect.poll(rate, { timeout: 10_000 }).toBeGreaterThan(20)
    clearInterval(timer)
    await expect.poll(rate, { timeout: 10_000 }).toBe(0)
    expect(await page.locator('#kv-blocks').textContent()).toBe('2 of 8 blocks, 4 more kept')
    expect(
      await page.getByLabel('Share of the KV cache in use').evaluate((meter: { value: number }) => meter.value),
    ).toBe(0.25)
    expect(await page.locator('#kv-bytes').textContent()).toBe(
      '3.00 MB; 4.00 MB if every layer pass cached every token',
    )
  })

  it('stops on request', async () => {
    const engine = await open(({ generation }) => generation.push({ token: 97, depth: 2, logprob: 0 }))
    await generate('')
    await expect.poll(() => tokens().count()).toBe(1)
    await page.getByRole('button', { name: 'Stop' }).click()
    await expect.poll(() => summary().textContent()).toMatch(/^1 tokens, .*stopped$/)
    await expect.poll(() => engine.requests[0]!.aborted, { timeout: 10_000 }).toBe(true)
    expect(await page.getByRole('button', { name: 'Stop' }).isDisabled()).toBe(true)
    expect(await page.getByRole('alert').textContent()).toBe('')
  })

  it('hands on the options that are filled in', async () => {
    const engine = await open(write('a'))
    await page.getByLabel('Most tokens').fill('7')
    await page.getByLabel('Temperature').fill('0')
    await page.getByLabel('Seed').fill('12')
    await page.getByLabel('Router threshold').fill('0.25')
    await page.getByLabel('Most recursions').fill('2')
    await generate('x')
    await expect.poll(() => engine.requests.length).toBe(1)
    const { signal: _, ...options } = engine.requests[0]!.options
    expect(options).toEqual({ maxTokens: 7, temperature: 0, seed: 12, routerThreshold: 0.25, maxRecursions: 2 })
  })

  it.each([null, { type: 'token_choice' as const }])(
    'has no router threshold for a model that has none: %j',
    async (router) => {
      await open(write('a'), {}, { router })
      await page.locator('#model').getByText('3 recursions').waitFor()
      expect(await page.getByLabel('Router threshold').isVisible()).toBe(false)
      expect(await page.getByLabel('Most recursions').isVisible()).toBe(true)
    },
  )

  it('says what failed', async () => {
    await open(() => {})
    await generate('x'.repeat(64))
    await expect.poll(() => page.getByRole('alert').textContent()).toContain('64 tokens; this server takes at most 63')
    expect(problems.splice(0).every((problem) => problem.includes('400'))).toBe(true)
  })

  it('asks for the API key where one is needed', async () => {
    await open(write('abc'), { apiKey: 'secret' })
    const key = page.getByLabel('API key')
    await key.waitFor()
    await expect.poll(() => page.locator('#throughput').textContent()).toBe('needs the API key')
    await key.fill('secret')
    await expect.poll(() => page.locator('#model').textContent()).toMatch(/^tiny: 3 recursions, context 64/)
    await generate('')
    await expect.poll(() => tokens().count()).toBe(3)
  })
})
