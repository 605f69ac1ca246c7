// The command line of the studies: what is wrong is said, with the names that there are.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { readArguments } from '../../../bench/study/arguments.js'
import { root } from '../../../bench/study/command_line.js'
import { idOf, type StudyRun } from '../../../bench/study/study.js'

const run = (name: string, seed: number) => ({ name, seed }) as StudyRun
const studies = { quality: [run('vanilla', 1), run('vanilla', 2), run('mor-2', 1)], uptrain: [run('up', 1)] }

it('takes the runs whose name contains a text', () => {
  const given = readArguments(['table', 'quality', '--only', 'vanilla'], studies)
  expect(given).toMatchObject({ command: 'table', study: 'quality' })
  expect(given!.runs.map(idOf)).toEqual(['vanilla.seed1', 'vanilla.seed2'])
  expect(readArguments(['run', 'quality', '--books', 'b', '--work', 'w'], studies)).toMatchObject({
    books: 'b',
    work: 'w',
  })
  expect(readArguments(['knobs', 'uptrain'], studies)!.runs).toHaveLength(1)
})

it('is asked for help', () => {
  expect(readArguments(['--help'], studies)).toBeNull()
  expect(readArguments(['tabel', '-h'], studies)).toBeNull()
})

it.each<[string, RegExp]>([
  ['', /^no command is given; give run, serve, time, knobs or table, and a study$/],
  ['tabel quality', /^there is no command tabel \(did you mean "table"\?\); there are run, serve, time, knobs, table$/],
  ['constructor quality', /^there is no command constructor; /],
  ['table', /^no study is given; give quality or uptrain$/],
  ['table nope', /^there is no study nope; there are quality, uptrain$/],
  ['table quality extra', /^extra is one word too many: give a command and a study$/],
  ['time quality --foo', /^Unknown option '--foo'/],
  ['table quality --only', /argument missing/],
  [
    'table quality --only zzz',
    /^no run of quality has a name with "zzz" in it; there are vanilla, mor-2, each with \.seed1 or the like behind it$/,
  ],
  ['run quality', /^run needs the books: give the folder of train-\*\.jsonl\.xz and val\.jsonl\.xz as --books$/],
  [
    'knobs quality',
    /^knobs measures one run, and 3 are named: give the name of one as --only, such as vanilla\.seed1$/,
  ],
])('"%s" is refused with the reason', (line, message) => {
  expect(() => readArguments(line.split(' ').filter(Boolean), studies)).toThrow(message)
})

it('writes help to standard output, and a reason to standard error', () => {
  const study = (...args: string[]) => {
    const command = [require.resolve('tsx/cli'), join(root, 'bench/study/index.ts'), ...args]
    return spawnSync(process.execPath, command, { encoding: 'utf8' })
  }
  const help = study('--help')
  expect(help).toMatchObject({ status: 0, stderr: '' })
  expect(help.stdout).toMatch(/^usage: npm run study -- [\s\S]*\nstudies: quality, uptrain\n$/)
  expect(study('table', 'nope')).toMatchObject({
    status: 2,
    stdout: '',
    stderr: expect.stringMatching(/^there is no study nope; .*\nusage: npm run study/),
  })
  const failed = study('serve', 'quality', '--work', join(root, 'no-such-folder'))
  expect(failed).toMatchObject({ status: 1, stderr: expect.stringMatching(/^no run has a model in .* yet\n$/) })
}, 120_000)
