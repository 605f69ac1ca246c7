// Reads the values back from the SVG of a chart: positions of marks become values by the labels of the axes.

export interface Plotted {
  /** The runs or depths that the legend names. */
  legend: string[]
  /** Points of each line, by the kind and the label of the line. */
  lines: Record<string, { x: number; y: number }[]>
  /** Points that are drawn alone, by their label. */
  points: Record<string, { x: number; y: number }>
}

/** @param logarithmic whether the axis from left to right is */
export function readChart(svg: string, logarithmic: boolean): Plotted {
  const x = scaleOf(ticksOf(svg, 'X'), logarithmic)
  const y = scaleOf(ticksOf(svg, 'Y'), false)
  const at = ([left, top]: number[]) => ({ x: x(left!), y: y(top!) })
  const lines: Plotted['lines'] = {}
  for (const [, kind, body] of svg.matchAll(/<g class="mark-line role-mark (\w+)"[^>]*>(.*?)<\/g>/g)) {
    for (const [, label, path] of body!.matchAll(/<path aria-label="([^"]*)"[^>]* d="([^"]*)"/g)) {
      lines[`${kind} ${label}`] = [...path!.matchAll(/[ML]([-\d.e]+),([-\d.e]+)/g)].map(([, ...place]) =>
        at(place.map(Number)),
      )
    }
  }
  const points: Plotted['points'] = {}
  for (const [, body] of svg.matchAll(/<g class="mark-symbol role-mark points"[^>]*>(.*?)<\/g>/g)) {
    for (const [, label, left, top] of body!.matchAll(
      /<path aria-label="([^"]*)"[^>]* transform="translate\(([^,]*),([^)]*)\)"/g,
    ))
      points[label!] = at([Number(left), Number(top)])
  }
  const legend = [...svg.matchAll(/<g class="mark-text role-legend-label"[^>]*><text[^>]*>(.*?)<\/text>/g)].map(
    ([, label]) => label!,
  )
  return { legend, lines, points }
}

interface Tick {
  place: number
  value: number
}

/** Vega puts a label beside an axis so much below the place of its tick. */
const BASELINE = 4

/** Of the labels, whose places are exact; lines at ticks are moved to whole pixels. */
function ticksOf(svg: string, axis: 'X' | 'Y'): Tick[] {
  const start = svg.indexOf(`aria-label="${axis}-axis`)
  const part = svg.slice(start, svg.indexOf('role-axis-title', start))
  const [, labels] = part.match(/<g class="mark-text role-axis-label"[^>]*>(.*?)<\/g>/)!
  const texts = labels!.matchAll(/<text[^>]* transform="translate\(([^,]*),([^)]*)\)"[^>]*?(?:\/>|>(.*?)<\/text>)/g)
  return [...texts].flatMap(([, left, top, label]) => {
    const place = axis === 'X' ? Number(left) : Number(top) - BASELINE
    return label === undefined ? [] : [{ place, value: numberOf(label) }]
  })
}

const units: Record<string, number> = { m: 1e-3, k: 1e3, M: 1e6, G: 1e9, '%': 1e-2 }

function numberOf(label: string): number {
  const [, digits, unit = ''] = label.replace('−', '-').match(/^([-+\d.e]+)([mkMG%]?)$/)!
  return Number(digits) * (units[unit] ?? 1)
}

/** The values of places, from the first and the last tick. */
function scaleOf(ticks: Tick[], logarithmic: boolean): (place: number) => number {
  const forward = logarithmic ? Math.log : (value: number) => value
  const back = logarithmic ? Math.exp : (value: number) => value
  const [first, last] = [ticks[0]!, ticks.at(-1)!]
  const slope = (forward(last.value) - forward(first.value)) / (last.place - first.place)
  return (place) => back(forward(first.value) + slope * (place - first.place))
}
