// Tests of how the benches run programs that print lines of JSON, and of what they say of programs that fail.
import { expect, test } from 'vitest'
import { parseLines, runProgram } from '../../bench/lib/native_programs.js'

const run = (script: string, options = {}) => runProgram<{ value: unknown }>(process.execPath, ['-e', script], options)

test('every line is an object, and variables reach the program', () => {
  const script = `console.log('{"value":1}'); console.log(JSON.stringify({ value: process.env.MOR_TEST_LIMIT }))`
  expect(run(script, { environment: { MOR_TEST_LIMIT: 'AVX2' } })).toEqual([{ value: 1 }, { value: 'AVX2' }])
})

test('a program that fails is an error with its last words', () => {
  expect(() => run(`console.error('first'); console.error('no kernel'); process.exit(1)`)).toThrow(/^no kernel$/)
  expect(() => run('process.exit(3)')).toThrow('ended with exit code 3')
})

test('a program that hangs is ended when its time is over', () => {
  expect(() => run('setInterval(() => {}, 1000)', { timeout: 300 })).toThrow('ETIMEDOUT')
})

test('a program that is not there is an error', () => {
  expect(() => runProgram('/no/such/program', [])).toThrow('ENOENT')
})

test('a line that is no JSON is named', () => {
  expect(() => parseLines('{"kind":"device"}\nwarning: slow\n')).toThrow('"warning: slow"')
})
