// `mor generate --depths` on a terminal of its own, on the real addon: each token in the colour of its depth.
import { execFileSync, spawnSync } from 'node:child_process'
import { stripVTControlCharacters } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { saveTinyModel } from '../server/tiny_model.js'
import { mor } from './process.js'

/** util-linux's `script` runs a command on a pseudo-terminal. */
const hasScript = process.platform === 'linux' && spawnSync('script', ['--version']).status === 0
if (!hasScript) process.stderr.write('SKIPPED: generation on a terminal: there is no `script` of util-linux\n')

let folder: string
let remove: () => Promise<void>
beforeAll(async () => {
  ;({ folder, remove } = await saveTinyModel())
})
afterAll(() => remove())

const common = ['--prompt', 'Whale', '--max-tokens', '60', '--seed', '2', '--device', 'cpu', '--dtype', 'float32']

/** What `mor generate` writes to a terminal. */
function onTerminal(...args: string[]): string {
  const command = ['node', '--import', 'tsx', 'lib/cli/main.ts', 'generate', `'${folder}'`, ...common, ...args]
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(NO_COLOR|FORCE_COLOR|CI)$/.test(name)),
  )
  return execFileSync('script', ['--quiet', '--return', '--command', command.join(' '), '/dev/null'], {
    encoding: 'utf8',
    env: { ...env, TERM: 'xterm-256color' },
  })
}

describe.skipIf(!hasScript)('mor generate on a terminal', { timeout: 120_000 }, () => {
  it('paints every token in the colour of its depth, with a legend', async () => {
    const { stdout } = await mor('generate', folder, ...common)
    const records = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    const tokens = records.filter(({ type }) => type === 'token')
    expect(new Set(tokens.map(({ depth }) => depth)).size).toBeGreaterThan(1)

    const painted = onTerminal('--depths')
    const colorOfDepth = [36, 32, 33]
    const expected = tokens.map(({ text, depth }) => `\u001b[${colorOfDepth[depth - 1]}m${text}\u001b[39m`).join('')
    expect(withoutReturns(painted)).toContain(withoutReturns(expected))
    const lastLine = stripVTControlCharacters(painted).trimEnd().split('\n').at(-1)!
    expect(lastLine).toMatch(new RegExp(`^depth 1 2 3 {2}${tokens.length} tokens .* mean depth [123]\\.\\d\\d$`))
  })

  it('shows plain text without --depths', () => {
    const lastLine = stripVTControlCharacters(onTerminal()).trimEnd().split('\n').at(-1)!
    expect(lastLine).toMatch(/^\d+ tokens .* ended by (length|stop)$/)
  })
})

/** A terminal turns each line feed into a carriage return and a line feed. */
function withoutReturns(text: string): string {
  return text.replaceAll('\r', '')
}
