// What a chart shows, whichever library draws it.
import type { Style } from './colors.js'
import type { Point } from './series.js'

export interface Axis {
  title: string
  scale: 'linear' | 'log'
  /** How its numbers are written, as in d3-format. */
  format: string
}

interface ChartBase {
  /** Name of its SVG file, without the ending. */
  name: string
  title: string
  /** What a reader must know to read it. */
  caption: string
  x: Axis
  y: Axis
}

/** One colour and legend entry: a run, or a depth. */
export interface Series {
  label: string
  style: Style
  /** What training measured, drawn as a thin line. */
  training: Point[]
  /** What evaluations on held-out text measured, drawn as points on a line. */
  heldOut: Point[]
}

export interface LineChart extends ChartBase {
  kind: 'line'
  series: Series[]
}

export interface PointChart extends ChartBase {
  kind: 'points'
  /** At most one for each label. */
  points: (Point & { label: string; style: Style })[]
}

export type Chart = LineChart | PointChart
