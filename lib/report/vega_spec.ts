// Charts as specifications for Vega.
import type { Data, Legend, Mark, Scale, Spec, Axis as VegaAxis } from 'vega'
import type { Axis, Chart, LineChart, PointChart, Series } from './chart.js'
import type { Style } from './colors.js'
import type { Point } from './series.js'

const WIDTH = 640
const HEIGHT = 300

export function vegaSpec(chart: Chart): Spec {
  const parts = chart.kind === 'line' ? lines(chart) : points(chart)
  return {
    $schema: 'https://vega.github.io/schema/vega/v6.json',
    description: chart.title,
    width: WIDTH,
    height: HEIGHT,
    padding: 8,
    background: '#ffffff',
    config: {
      axis: { gridColor: '#e3e7ec', labelFontSize: 12, titleFontSize: 13, titleFontWeight: 'normal' },
      legend: { labelFontSize: 12, labelLimit: 600 },
    },
    axes: [axis(chart.x, 'x', 'bottom'), axis(chart.y, 'y', 'left')],
    ...parts,
  }
}

type Parts = Required<Pick<Spec, 'data' | 'scales' | 'legends' | 'marks'>>

function axis({ title, format }: Axis, scale: string, orient: VegaAxis['orient']): VegaAxis {
  // Of labels that would touch, the greedy way leaves out the later one; the other way, every second one of all.
  const labelOverlap = 'greedy'
  return { scale, orient, title, format, grid: true, tickCount: orient === 'left' ? 6 : 8, labelOverlap }
}

/** @param data names of the data that the scale must hold */
function valueScale({ scale }: Axis, name: 'x' | 'y', data: string[], padding: number): Scale {
  const domain = { fields: data.map((of) => ({ data: of, field: name })) }
  const range = name === 'x' ? 'width' : 'height'
  if (scale === 'log') return { name, type: 'log', domain, range, nice: false, padding }
  return { name, type: 'linear', domain, range, zero: false, nice: name === 'y', padding }
}

function styleScales(entries: { label: string; style: Style }[]): Scale[] {
  const domain = entries.map(({ label }) => label)
  const styles = entries.map(({ style }) => style)
  return [
    { name: 'color', type: 'ordinal', domain, range: styles.map(({ color }) => color) },
    { name: 'dash', type: 'ordinal', domain, range: styles.map(({ dash }) => dash) },
    { name: 'shape', type: 'ordinal', domain, range: styles.map(({ shape }) => shape) },
  ]
}

function lines({ series, x, y }: LineChart): Parts {
  const kinds = ['training', 'heldOut'] as const
  const named = (name: string, pointsOf: (of: Series) => Point[]): Data => {
    return { name, values: series.flatMap((of) => pointsOf(of).map((point) => ({ label: of.label, ...point }))) }
  }
  // One measurement alone makes no line.
  const dots = named('dots', ({ training, heldOut }) => [...heldOut, ...(training.length === 1 ? training : [])])
  const data = [...kinds.map((kind) => named(kind, (of) => of[kind])), dots]
  const evaluated = series.some(({ heldOut }) => heldOut.length > 0)
  const legend: Legend = {
    stroke: 'color',
    strokeDash: 'dash',
    symbolType: 'stroke',
    symbolSize: 300,
    symbolStrokeWidth: 2.5,
  }
  return {
    data,
    scales: [valueScale(x, 'x', [...kinds], 0), valueScale(y, 'y', [...kinds], 0), ...styleScales(series)],
    legends: [legend],
    marks: [
      lineMark('training', evaluated ? { width: 1, opacity: 0.4 } : { width: 1.5, opacity: 1 }),
      lineMark('heldOut', { width: 2, opacity: 1 }),
      {
        type: 'symbol',
        name: 'marked',
        aria: false,
        from: { data: 'dots' },
        encode: { enter: { ...place, fill: byLabel('color'), size: { value: 22 } } },
      },
    ],
  }
}

const place = { x: { scale: 'x', field: 'x' }, y: { scale: 'y', field: 'y' } }
const byLabel = (scale: string) => ({ scale, field: 'label' })

/** A line for each label in `data`. */
function lineMark(data: string, { width, opacity }: { width: number; opacity: number }): Mark {
  return {
    type: 'group',
    from: { facet: { name: `${data}Lines`, data, groupby: 'label' } },
    marks: [
      {
        type: 'line',
        name: data,
        from: { data: `${data}Lines` },
        encode: {
          enter: {
            ...place,
            stroke: byLabel('color'),
            strokeDash: byLabel('dash'),
            strokeWidth: { value: width },
            opacity: { value: opacity },
            description: { field: 'label' },
          },
        },
      },
    ],
  }
}

function points({ points, x, y }: PointChart): Parts {
  return {
    data: [{ name: 'values', values: points.map(({ label, x, y }) => ({ label, x, y })) }],
    scales: [valueScale(x, 'x', ['values'], 20), valueScale(y, 'y', ['values'], 20), ...styleScales(points)],
    legends: [{ fill: 'color', shape: 'shape' }],
    marks: [
      {
        type: 'symbol',
        name: 'points',
        from: { data: 'values' },
        encode: {
          enter: {
            ...place,
            fill: byLabel('color'),
            shape: byLabel('shape'),
            size: { value: 110 },
            description: { field: 'label' },
          },
        },
      },
    ],
  }
}
