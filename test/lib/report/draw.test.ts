// The SVG of charts: what is plotted are the values of the points.
import { describe, expect, it, vi } from 'vitest'
import type { LineChart, PointChart, Series } from '../../../lib/report/chart.js'
import { runStyle } from '../../../lib/report/colors.js'
import { drawCharts } from '../../../lib/report/draw.js'
import type { Point } from '../../../lib/report/series.js'
import { readChart } from './svg.js'

// The first chart loads the library, which takes minutes on a machine that is busy.
vi.setConfig({ testTimeout: 300_000 })

const { signal } = new AbortController()
const axis = { title: 'axis', scale: 'linear', format: '~s' } as const
const texts = { name: 'chart', title: 'A chart', caption: '' }
const series = (label: string, index: number, training: Point[], heldOut: Point[] = []): Series => {
  return { label, style: runStyle(index), training, heldOut }
}

function close(points: Point[] | undefined, expected: Point[]): void {
  expect(points?.length).toBe(expected.length)
  for (const [i, { x, y }] of expected.entries()) {
    expect(points![i]!.x / x).toBeCloseTo(1, 3)
    expect(points![i]!.y / y).toBeCloseTo(1, 3)
  }
}

const falling = (count: number, scale: number): Point[] =>
  Array.from({ length: count }, (_, i) => ({ x: 1000 * (i + 1), y: scale / Math.sqrt(i + 1) + 2 }))

describe('lines', () => {
  it.each(['log', 'linear'] as const)('have the values of their points on a %s axis', async (scale) => {
    const chart: LineChart = {
      ...texts,
      kind: 'line',
      x: { ...axis, scale },
      y: { ...axis, format: '~f' },
      series: [
        series('a', 0, falling(100, 3), [falling(100, 3.5)[49]!, falling(100, 3.5)[99]!]),
        series('b & <b>', 1, falling(40, 2)),
      ],
    }
    const [svg] = await drawCharts([chart], signal)
    const { legend, lines } = readChart(svg!, scale === 'log')
    expect(legend).toEqual(['a', 'b &amp; &lt;b&gt;'])
    expect(Object.keys(lines)).toHaveLength(3)
    close(lines['training a'], falling(100, 3))
    close(lines['training b &amp; &lt;b&gt;'], falling(40, 2))
    close(lines['heldOut a'], [falling(100, 3.5)[49]!, falling(100, 3.5)[99]!])
  })

  it('of FLOPs and of shares are labelled with numbers that can be read', async () => {
    const chart: LineChart = {
      ...texts,
      kind: 'line',
      x: { ...axis, scale: 'log', format: '~e' },
      y: { ...axis, format: '.1~%' },
      series: [
        series('a', 0, [
          { x: 1e15, y: 0.955 },
          { x: 3e17, y: 0.99 },
        ]),
      ],
    }
    const [svg] = await drawCharts([chart], signal)
    close(readChart(svg!, true).lines['training a'], chart.series[0]!.training)
  })

  it('of one point, or of equal ones, are drawn', async () => {
    const chart: LineChart = {
      ...texts,
      kind: 'line',
      x: { ...axis, scale: 'log' },
      y: axis,
      series: [series('a', 0, [{ x: 5, y: 2 }]), series('b', 1, [{ x: 5, y: 2 }]), series('c', 2, falling(3, 2))],
    }
    const [svg] = await drawCharts([chart], signal)
    const [, dots] = svg!.match(/<g class="mark-symbol role-mark marked"[^>]*>(.*?)<\/g>/)!
    expect(dots!.match(/<path/g)).toHaveLength(2)
    expect(svg).not.toMatch(/NaN|undefined|Infinity/)
    expect(svg).toMatch(/^<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/)
  })
})

it.each(['log', 'linear'] as const)('points have their values on a %s axis', async (scale) => {
  const points = [
    { label: 'a', style: runStyle(0), x: 500, y: 1.25 },
    { label: 'b "quoted"', style: runStyle(1), x: 9000, y: 1.5 },
    { label: 'c', style: runStyle(7), x: 2000, y: 1.4 },
  ]
  const chart: PointChart = { ...texts, kind: 'points', x: { ...axis, scale }, y: { ...axis, format: '~f' }, points }
  const [svg] = await drawCharts([chart], signal)
  const plotted = readChart(svg!, scale === 'log')
  for (const { label, x, y } of points) close([plotted.points[label.replaceAll('"', '&quot;')]!], [{ x, y }])
  expect(plotted.legend).toEqual(points.map(({ label }) => label))
})

it('stops when it is told to', async () => {
  await expect(
    drawCharts([{ ...texts, kind: 'points', x: axis, y: axis, points: [] }], AbortSignal.abort()),
  ).rejects.toMatchObject({ code: 'ABORTED' })
})

it('says what to install where the library is missing', async () => {
  vi.doMock('vega', () => {
    throw new Error('Cannot find package')
  })
  await expect(drawCharts([], signal)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringMatching(/^charts need the package vega: npm install vega/),
  })
  vi.doUnmock('vega')
})
