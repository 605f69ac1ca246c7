// Tests of how the op bench turns measured times into figures.
import { expect, test } from 'vitest'
import { Report } from '../../bench/lib/report.js'
import { addRatios, type OpLine, ofRoofline } from '../../bench/ops/figures.js'

const ceilings = { flops: 1e12, bytes: 1e10 }
const line = (change: Partial<OpLine>): OpLine => ({
  kind: 'op',
  op: 'linear_forward',
  variant: '',
  waits: false,
  flops: 0,
  bytes: 1e7,
  seconds: [2e-3, 4e-3, 3e-3],
  ...change,
})

test('the roofline is whichever ceiling takes longer', () => {
  expect(ofRoofline(line({}), ceilings)).toBeCloseTo(1 / 3)
  expect(ofRoofline(line({ flops: 1e9 }), ceilings)).toBeCloseTo(1 / 3)
  expect(ofRoofline(line({ flops: 2e9 }), ceilings)).toBeCloseTo(2 / 3)
})

test('ratios are geometric means over the uses of an op, and an op that waits for the host has none', () => {
  const report = new Report('ops', 'a machine')
  addRatios(
    report,
    [
      line({ flops: 3e9, rival: { name: 'cublaslt', seconds: [1.5e-3] } }),
      line({ variant: 'o', seconds: [4e-3], rival: { name: 'cublaslt', seconds: [8e-3] } }),
      line({ op: 'adamw' }),
      line({ op: 'sample', waits: true }),
    ],
    ceilings,
  )
  const { linear_forward_of_roofline, linear_forward_vs_cublaslt, adamw_of_roofline, ...others } = report.result.ratios
  expect(linear_forward_of_roofline).toBeCloseTo(Math.sqrt(1 * 0.25))
  expect(linear_forward_vs_cublaslt).toBeCloseTo(Math.sqrt(0.5 * 2))
  expect(adamw_of_roofline).toBeCloseTo(1 / 3)
  expect(others).toEqual({})
})
