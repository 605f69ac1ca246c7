// Tests of what a bench prints: the table and the JSON line for programs.
import { describe, expect, test } from 'vitest'
import { Report, round, table } from '../../bench/lib/report.js'

describe('Report', () => {
  test('ends with one line of JSON in the agreed form', () => {
    const report = new Report('train', 'a machine')
    report.figure('mor', [30, 10, 20], 'tokens/s', 'a note')
    report.ratio('mor_vs_pytorch', 2.5, 'another')
    const last = report.toString().split('\n').at(-1)!
    expect(JSON.parse(last)).toEqual({
      bench: 'train',
      machine: 'a machine',
      figures: { mor: { median: 20, min: 10, max: 30, unit: 'tokens/s' } },
      ratios: { mor_vs_pytorch: 2.5 },
    })
  })

  test('shows every figure, ratio and note to people', () => {
    const report = new Report('train', 'a machine')
    report.figure('mor', [30, 10, 20], 'tokens/s', 'a note')
    report.ratio('mor_vs_pytorch', 2.5, 'another')
    const text = report.toString()
    for (const part of ['a machine', 'mor', '20', 'tokens/s', 'a note', 'mor_vs_pytorch', '2.5', 'another']) {
      expect(text).toContain(part)
    }
  })

  test('remarks are in the text and in the JSON', () => {
    const report = new Report('train', '')
    report.remark('PyTorch has no rows: apt-get install python3-torch')
    const lines = report.toString().split('\n')
    expect(lines.filter((line) => line === 'PyTorch has no rows: apt-get install python3-torch')).toHaveLength(1)
    expect(JSON.parse(lines.at(-1)!).remarks).toEqual(['PyTorch has no rows: apt-get install python3-torch'])
  })

  test('refuses a ratio that is not a number', () => {
    expect(() => new Report('train', '').ratio('of_matmul_peak', 1 / 0)).toThrow('of_matmul_peak')
  })
})

test.each([
  [0, '0'],
  [1234.56, '1235'],
  [98765.4, '98765'],
  [12.3456, '12.35'],
  [0.98765, '0.9877'],
  [0.00012345, '0.000123'],
  [-2.5, '-2.500'],
])('round(%d) is %s', (value, text) => {
  expect(round(value)).toBe(text)
})

test('table aligns numbers right and words left', () => {
  expect(
    table(
      ['name', 'value', ''],
      [
        ['a', '1', 'x'],
        ['bcdef', '1000', ''],
      ],
    ),
  ).toEqual(['name   value', '-----  -----  -', 'a          1  x', 'bcdef   1000'])
})
