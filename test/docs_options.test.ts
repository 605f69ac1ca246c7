// docs/command-line.md has every command and every option of the command line, with its default, and no other; the documentation names
// what the package exports, and the options of its calls.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command, Option } from 'commander'
import { describe, expect, it } from 'vitest'
import { makeProgram } from '../lib/cli/program.js'
import { errorCodes } from '../lib/errors.js'
import * as exported from '../lib/index.js'
import { root } from './source_files.js'

const read = (file: string) => readFileSync(join(root, file), 'utf8')
const page = read('docs/command-line.md')

/** The commands that do something, with the names of those above them: `mor tokenizer train`. */
function commandsOf(command: Command, names: string): { name: string; command: Command }[] {
  if (command.commands.length === 0) return [{ name: names, command }]
  return command.commands.flatMap((inner) => commandsOf(inner, `${names} ${inner.name()}`))
}

const commands = commandsOf(makeProgram(), 'mor')

/** The part of the page whose heading names the command, with the part that all commands have in common. */
function partOf(name: string): { own: string; common: string } {
  const [, common, ...parts] = page.split(/^## /m)
  const own = parts.find((part) => part.split('\n')[0]!.split(', ').includes(name)) ?? ''
  return { own: name === 'mor serve' ? read('docs/server.md') : own, common: common! }
}

/** The cells of the rows of tables that begin with `flag`. */
function rowsOf(text: string, flag: string): string[][] {
  const cells = (line: string) => line.split(/(?<!\\)\|/).map((cell) => cell.trim())
  return text.split('\n').flatMap((line) => {
    const [, first, ...rest] = cells(line)
    return first === `\`${flag}\`` ? [rest] : []
  })
}

const flagsIn = (text: string) => new Set(text.match(/(?<=`)--[a-z][a-z-]*/g) ?? [])

describe('docs/command-line.md', () => {
  it('has a part for every command', () => {
    expect(commands.length).toBeGreaterThan(10)
    for (const { name } of commands) expect(partOf(name).own, name).not.toBe('')
  })

  it.each(commands)('names the options of $name', ({ name, command }) => {
    const { own, common } = partOf(name)
    const missing = command.options.flatMap(({ long }) => (flagsIn(own + common).has(long!) ? [] : [long]))
    expect(missing).toEqual([])
  })

  it.each(commands.filter(({ name }) => !/serve|view/.test(name)))(
    'says the defaults of $name',
    ({ name, command }) => {
      const { own, common } = partOf(name)
      const shown = ({ defaultValue = '' }: Option) => (defaultValue === '' ? '' : `\`${String(defaultValue)}\``)
      for (const option of command.options) {
        const rows = rowsOf(own, option.long!)
        const found = rows.length > 0 ? rows : rowsOf(common, option.long!)
        expect(
          found.map(([value]) => value),
          `${name} ${option.long}`,
        ).toContain(shown(option))
      }
    },
  )

  it('has no option that there is not', () => {
    const known = new Set(commands.flatMap(({ command }) => command.options.map(({ long }) => long!)))
    for (const flag of ['--help', '--verbose', '--version']) known.add(flag)
    expect([...flagsIn(page)].filter((flag) => !known.has(flag))).toEqual([])
  })
})

describe('the documentation of the API', () => {
  const pages = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md'))
  // Its code, in blocks and between backticks: names are words, too.
  const text = ['README.md', ...pages.map((name) => join('docs', name))]
    .flatMap((file) => read(file).match(/^```\w*\n[\s\S]*?^```|`[^`\n]+`/gm) ?? [])
    .join('\n')
  const missing = (names: string[]) => names.filter((name) => !new RegExp(`\\b${name}\\b`).test(text))

  it('names the codes of errors', () => {
    expect(missing([...errorCodes])).toEqual([])
  })

  it('names what the package exports', () => {
    expect(Object.keys(exported).length).toBeGreaterThan(20)
    expect(missing(Object.keys(exported))).toEqual([])
  })

  it.each([
    ['lib/trainer_options.ts', 'TrainerOptions'],
    ['lib/distributed.ts', 'DistributedOptions'],
    ['lib/engine.ts', 'EngineOptions'],
    ['lib/sampling.ts', 'GenerateOptions'],
    ['lib/convert.ts', 'ConvertOptions'],
    ['lib/evaluate.ts', 'EvaluationOptions'],
    ['lib/dataset/build_options.ts', 'BuildDatasetOptions'],
    ['lib/server/options.ts', 'ServerOptions'],
  ])('names the options that %s has in %s', (file, name) => {
    const [, body = ''] = new RegExp(`interface ${name}\\b[^{]*\\{\\n([\\s\\S]*?)\\n\\}`).exec(read(file)) ?? []
    const keys = [...body.matchAll(/^ {2}(\w+)\??[:(]/gm)].map((match) => match[1]!)
    expect(keys.length).toBeGreaterThan(2)
    expect(missing(keys)).toEqual([])
  })
})
