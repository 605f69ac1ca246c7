// Tests of the line protocol with processes that answer, fail, end and hang.
import { expect, test } from 'vitest'
import { Contender } from '../../bench/lib/contender.js'
import { Rival } from '../../bench/lib/rival.js'

/** Answers `echo` and `pid`, reports an error for `fail`, ends at `die`, and is silent for everything else. */
const program = `
  const lines = require('node:readline').createInterface({ input: process.stdin })
  const answer = (value) => console.log(JSON.stringify(value))
  answer({ ready: 'a test' })
  lines.on('line', (line) => {
    const { command, value } = JSON.parse(line)
    if (command === 'echo') answer({ value })
    if (command === 'pid') answer({ pid: process.pid })
    if (command === 'fail') answer({ error: 'it broke' })
    if (command === 'die') process.exit(3)
  })
`
const start = () => Contender.start(process.execPath, ['-e', program])
const runs = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

test('answers come in the order of the requests', async () => {
  const contender = await start()
  expect(contender.description).toBe('a test')
  expect(await contender.ask('echo', { value: 1 })).toEqual({ value: 1 })
  expect(await contender.ask('echo', { value: 2 })).toEqual({ value: 2 })
  await contender.end()
})

test('a contender that hangs is ended by its process id when its time is over', async () => {
  const contender = await start()
  const { pid } = await contender.ask<{ pid: number }>('pid')
  expect(runs(pid)).toBe(true)
  await expect(contender.ask('hang', {}, 0.1)).rejects.toThrow('a test: hang: no answer within 0.1 s')
  expect(runs(pid)).toBe(false)
  await expect(contender.ask('echo', { value: 1 })).rejects.toThrow('ended without an answer')
  await contender.end()
})

test.each([
  ['fail', 'a test: fail: it broke'],
  ['die', 'a test: die: the process ended without an answer'],
])('a contender that answers %s with a failure is ended', async (command, message) => {
  const contender = await start()
  const { pid } = await contender.ask<{ pid: number }>('pid')
  await expect(contender.ask(command)).rejects.toThrow(message)
  expect(runs(pid)).toBe(false)
})

test('a program that is not there is an error of the start', async () => {
  await expect(Contender.start('/no/such/program', [])).rejects.toThrow('ENOENT')
})

test('a rival that does not start, or fails later, is lost with its reason, and is asked no more', async () => {
  const missing = await Rival.start(() => Promise.reject(new Error('not installed')))
  expect(missing.lost).toBe('not installed')
  expect(await missing.ask('echo', { value: 1 })).toBeUndefined()
  await missing.end()

  const rival = await Rival.start(start)
  expect(rival.lost).toBeUndefined()
  expect(await rival.ask('echo', { value: 1 })).toEqual({ value: 1 })
  expect(await rival.ask('fail', {})).toBeUndefined()
  expect(rival.lost).toBe('a test: fail: it broke')
  expect(await rival.ask('echo', { value: 1 })).toBeUndefined()
})
