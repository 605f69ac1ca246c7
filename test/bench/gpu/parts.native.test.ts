// A dry run of parts on the CPU, as a process of its own that is killed in the middle of its work.
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import { temporaryFolder } from '../../../bench/lib/temporary_folder.js'
import { root } from '../../source_files.js'

vi.setConfig({ testTimeout: 240_000 })

function start(words: readonly string[]) {
  const index = join(root, 'bench', 'gpu', 'index.ts')
  const child = spawn(process.execPath, ['--import', 'tsx', index, ...words], { cwd: root, stdio: 'pipe' })
  let said = ''
  child.stdout.on('data', (text) => (said += text))
  child.stderr.on('data', (text) => (said += text))
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  return { child, ended, said: () => said }
}

test('what was measured before the run is killed is in a whole file', async () => {
  using folder = temporaryFolder('mor-gpu-')
  const { child, ended, said } = start(['--device', 'cpu', '--only', 'train', '--rounds', '1', '--folder', folder.path])
  const file = join(folder.path, 'train.json')
  const figures = () => (existsSync(file) ? Object.keys(JSON.parse(readFileSync(file, 'utf8')).figures) : [])
  while (figures().length === 0 && child.exitCode === null) await setTimeout(20)
  child.kill('SIGKILL')
  await ended
  expect(figures(), said()).toContain('train_vanilla_2x32_step')
  const { part, finished, failures } = JSON.parse(readFileSync(file, 'utf8'))
  expect({ part, finished, failures }).toEqual({ part: 'train', finished: false, failures: {} })
})

test('a part or a device that there is not is named, and nothing runs', async () => {
  const unknown = start(['--device', 'cpu', '--only', 'train,tests'])
  expect(await unknown.ended).toBe(2)
  expect(unknown.said()).toContain('there is no part "tests"; there are probe, test, ops, train,')
  const absent = start(['--device', 'cuda:99'])
  expect(await absent.ended).toBe(2)
  expect(absent.said()).toContain('the device cuda:99 cannot be used')
})
