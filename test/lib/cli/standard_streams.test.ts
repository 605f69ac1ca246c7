// Standard output that nobody reads and that is full: every command ends with a code that says so, and never with a stack.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { saveTinyModel } from '../server/tiny_model.js'
import { command, morProcess } from './process.js'

/** Tokens of a context that takes longer to fill than a busy reader takes to go away. */
const LONG = 20_000

let folder: string
let remove: () => Promise<void>
beforeAll(async () => {
  ;({ folder, remove } = await saveTinyModel())
  // Without an end token no text ends by itself before the reader has gone.
  const changes = {
    'config.json': { max_position_embeddings: LONG, eos_token_id: null },
    'generation_config.json': { eos_token_id: null },
  }
  for (const [name, change] of Object.entries(changes)) {
    const file = join(folder, name)
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...change }))
  }
})
afterAll(() => remove())

/** The arguments that come to an end by themselves; `<model>` stands for the folder of a checkpoint. */
const commands = [
  ['inspect', '135M-mor-2'],
  ['--help'],
  ['train', '--help'],
  ['--version'],
  ['generate', '<model>', '--max-tokens', '200', '--device', 'cpu', '--dtype', 'float32'],
]
const argumentsOf = (args: string[]) => args.map((arg) => (arg === '<model>' ? folder : arg))

describe('a closed standard output', { timeout: 60_000 }, () => {
  it.each(commands)('ends %s %s with 141 and without a word', async (...args) => {
    const { code, stderr } = await morProcess(argumentsOf(args), (child) => child.stdout!.destroy())
    expect({ code, stderr }).toEqual({ code: 141, stderr: '' })
  })

  it('ends a generation under way', async () => {
    const args = [...argumentsOf(commands.at(-1)!), '--max-tokens', String(LONG - 10)]
    const { code, stderr } = await morProcess(args, (child) =>
      child.stdout!.once('data', () => child.stdout!.destroy()),
    )
    expect({ code, stderr }).toEqual({ code: 141, stderr: '' })
  })

  it('and a closed standard error leave an error its code', async () => {
    let child!: ChildProcess
    const { code } = await morProcess(['inspect', 'nowhere'], (started) => {
      child = started
      child.stdout!.destroy()
      child.stderr!.destroy()
    })
    expect({ code, signal: child.signalCode }).toEqual({ code: 1, signal: null })
  })
})

describe.skipIf(!existsSync('/dev/full'))('a full standard output', { timeout: 60_000 }, () => {
  it.each(commands)('ends %s %s with 1 and one line', async (...args) => {
    const full = openSync('/dev/full', 'w')
    const child = spawn(process.execPath, command(argumentsOf(args)), { stdio: ['ignore', full, 'pipe'] })
    const [stderr, [code]] = await Promise.all([text(child.stderr!), once(child, 'exit')])
    closeSync(full)
    expect(code).toBe(1)
    expect(stderr).toMatch(/^error \[IO_ERROR\] standard output cannot be written: ENOSPC[^\n]*\n$/)
  })
})
