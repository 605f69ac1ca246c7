// Colours and line styles of runs and of depths.

/** Those of Okabe and Ito that show well on white; readers with the usual kinds of colour blindness can tell them apart. */
const RUN_COLORS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000']
/** For the runs beyond the colours, which begin again. */
const DASHES = [
  [1, 0],
  [6, 3],
  [2, 2],
]
const SHAPES = ['circle', 'square', 'triangle-up']

const SHALLOW = [0x9e, 0xca, 0xe1]
const DEEP = [0x08, 0x30, 0x6b]

export interface Style {
  color: string
  dash: number[]
  shape: string
}

/** Of the run at `index`. */
export function runStyle(index: number): Style {
  const round = Math.floor(index / RUN_COLORS.length)
  return {
    color: RUN_COLORS[index % RUN_COLORS.length]!,
    dash: DASHES[round % DASHES.length]!,
    shape: SHAPES[round % SHAPES.length]!,
  }
}

/** Of the depth at `index`, among `count`: from light to dark. */
export function depthStyle(index: number, count: number): Style {
  const part = count > 1 ? index / (count - 1) : 0
  const channels = SHALLOW.map((shallow, i) => Math.round(shallow + part * (DEEP[i]! - shallow)))
  return { color: `rgb(${channels.join(', ')})`, dash: DASHES[0]!, shape: SHAPES[0]! }
}
