// `mor view` as a process on the real addon: it says where its page is, the page generates, and a signal ends it.
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { saveTinyModel } from '../server/tiny_model.js'
import { findChromium, launch } from '../view/chromium.js'
import { type Ended, morProcess } from './process.js'

const executable = findChromium()

let folder: string
let remove: () => Promise<void>
beforeAll(async () => {
  ;({ folder, remove } = await saveTinyModel())
})
afterAll(() => remove())

let child: ChildProcess | undefined
afterAll(() => child?.kill('SIGKILL'))

async function view(...args: string[]): Promise<{ url: string; ended: Promise<Ended> }> {
  const common = ['--model', folder, '--port', '0', '--dtype', 'float32', '--device', 'cpu', '--threads', '1']
  const ended = morProcess(['view', ...common, ...args], (started) => {
    child = started
  })
  const lines = createInterface({ input: child!.stdout! })[Symbol.asyncIterator]()
  const line = lines.next().then(({ value }) => JSON.parse(value as string))
  const { type, url } = await Promise.race([line, ended.then(({ stderr }) => Promise.reject(new Error(stderr)))])
  expect(type).toBe('listening')
  return { url, ended }
}

describe('mor view', { timeout: 120_000 }, () => {
  it.skipIf(executable === null)('shows what the model writes and how deep it went', async () => {
    const { url, ended } = await view()
    const browser = await launch(executable!)
    try {
      const page = await browser.newPage()
      await page.goto(url)
      await page.getByLabel('Prompt').fill('The whale')
      await page.getByLabel('Most tokens').fill('100')
      await page.getByLabel('Seed').fill('1')
      await page.getByRole('button', { name: 'Generate' }).click()
      const summary = page.getByRole('status')
      await expect
        .poll(() => summary.textContent(), { timeout: 60_000 })
        .toMatch(/^\d+ tokens, .*ended by (length|stop)$/)
      const tokens = Number.parseInt((await summary.textContent())!, 10)
      const depths = await page
        .locator('#text .token')
        .evaluateAll((all) => all.map((one) => Number(one.getAttribute('data-depth'))))
      expect(depths).toHaveLength(tokens)
      expect(depths.every((depth) => depth >= 1 && depth <= 3)).toBe(true)
      expect(new Set(depths).size).toBeGreaterThan(1)
      const counted = await page.locator('#histogram td:nth-child(2)').allTextContents()
      expect(counted.map(Number)).toEqual([1, 2, 3].map((depth) => depths.filter((one) => one === depth).length))
      await expect
        .poll(() => page.locator('#requests').textContent(), { timeout: 10_000 })
        .toBe('0 running, 0 waiting, 1 finished')
    } finally {
      await browser.close()
    }
    child!.kill('SIGINT')
    const { code, stdout } = await ended
    expect(code).toBe(0)
    expect(
      stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).type),
    ).toEqual(['listening', 'end'])
  })

  it('ends while a page is generating', async () => {
    const { url, ended } = await view('--api-key', 'secret')
    const response = await fetch(`${url}view/generate`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer secret' },
      body: JSON.stringify({ prompt: 'x', maxTokens: 250 }),
    })
    expect(response.status).toBe(200)
    child!.kill('SIGTERM')
    expect((await ended).code).toBe(0)
    expect(await response.text()).toMatch(/"type":"end","text":"[^"]*","finishReason":"(abort|length|stop)"}\n\n$/)
  })
})
