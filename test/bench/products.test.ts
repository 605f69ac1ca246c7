// Tests of how the product bench joins the lines of both programs and turns them into figures.
import { expect, test } from 'vitest'
import { parseLines } from '../../bench/lib/native_programs.js'
import { Report } from '../../bench/lib/report.js'
import {
  addOurs,
  addTheirs,
  type OurLine,
  productWord,
  reportProducts,
  type Series,
} from '../../bench/products/index.js'

const printed = `{"kind":"op","op":"linear_forward","variant":"o","waits":false,"flops":2e9,"bytes":1e6,"seconds":[2e-2],"product":{"m":2048,"n":384,"k":256,"a_transposed":false,"b_transposed":true,"accumulate":false}}
{"kind":"op","op":"linear_backward_weight","variant":"o","waits":false,"flops":2e9,"bytes":1e6,"seconds":[4e-2],"product":{"m":384,"n":256,"k":2048,"a_transposed":true,"b_transposed":false,"accumulate":true}}
`

test('a line of a program becomes a word for the other one', () => {
  expect(parseLines<OurLine>(printed).map(({ product }) => productWord(product))).toEqual([
    '2048,384,256,0,1,0',
    '384,256,2048,1,0,1',
  ])
})

test('rounds are compared one by one with the peak and with the rival', () => {
  const ours = parseLines<OurLine>(printed)
  const theirs = [1e-2, 8e-2].map((seconds) => ({ seconds, onednn: '2.6.3', implementation: 'gemm:jit' }))
  const series = new Map<string, Series>()
  for (let round = 0; round < 2; round++) {
    addOurs(series, 'float32', ours)
    addTheirs(series, 'float32', ours, theirs)
  }
  addOurs(series, 'bfloat16', ours)
  const report = new Report('products', 'a machine')
  reportProducts(report, [...series.values()], [200, 100], { bits: 256, held: '' })
  const { figures, ratios } = report.result
  expect(figures.float32_o_forward?.median).toBeCloseTo(100)
  expect(figures.float32_o_forward_onednn?.median).toBeCloseTo(200)
  expect(ratios.float32_o_forward_of_fma_peak).toBeCloseTo((0.5 + 1) / 2)
  expect(ratios.float32_o_forward_vs_onednn).toBeCloseTo(0.5)
  expect(ratios.float32_o_backward_weight_vs_onednn).toBeCloseTo(2)
  expect(ratios.float32_vs_onednn).toBeCloseTo(1)
  expect(ratios.bfloat16_of_fma_peak).toBeCloseTo(Math.sqrt(0.5 * 0.25))
  expect(ratios).not.toHaveProperty('bfloat16_vs_onednn')
})
