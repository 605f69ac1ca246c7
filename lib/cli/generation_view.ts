// Shows a generation while it runs: coloured text on a terminal; elsewhere a JSON object for each token, or text with a line
// of depths below.
import type { GeneratedToken, GenerationResult } from '../generation.js'
import type { Detokenizer } from '../tokenizer.js'
import { depthLegend, type Painters, paintDepth } from './depth_colors.js'
import type { OutputMode, OutputStream } from './output.js'

/** The part of a Generation that is shown. */
export interface TokenStream extends AsyncIterable<GeneratedToken> {
  readonly result: Promise<Pick<GenerationResult, 'finishReason'>>
}

export interface ViewOptions {
  prompt: string
  /** The model's number of recursions, to show each token's depth; null: do not show depths. */
  recursions: number | null
  painters: Painters
  mode: OutputMode
}

/** The text that the token completed; '' inside a character. */
interface Piece {
  text: string
  depth: number
}

/**
 * Shows all of `stream` on `output`; resolves when it has ended.
 * @param detokenizer a new one, which goes on from the prompt
 */
export async function showGeneration(
  stream: TokenStream,
  detokenizer: Detokenizer,
  { prompt, recursions, painters, mode }: ViewOptions,
  output: OutputStream,
): Promise<void> {
  const started = performance.now()
  const pieces: Piece[] = []
  if (mode === 'terminal') output.write(painters.dim(prompt))
  for await (const token of stream) {
    const piece = { text: detokenizer.push(token.token), depth: token.depth }
    pieces.push(piece)
    if (mode === 'json') output.write(`${JSON.stringify({ type: 'token', ...token, text: piece.text })}\n`)
    if (mode === 'terminal')
      output.write(recursions === null ? piece.text : paintDepth(piece.text, piece.depth, painters))
  }
  const rest = detokenizer.flush()
  const { finishReason } = await stream.result
  const seconds = (performance.now() - started) / 1000
  if (mode === 'json') {
    const text = pieces.map((piece) => piece.text).join('') + rest
    const depths = pieces.map((piece) => piece.depth)
    output.write(`${JSON.stringify({ type: 'generation', prompt, text, depths, finishReason, seconds })}\n`)
    return
  }
  if (mode === 'text') output.write(textOverDepths(prompt, pieces))
  const notes = summary(pieces, seconds, finishReason, recursions !== null)
  const legend = recursions === null || mode === 'text' ? '' : `${depthLegend(recursions, painters)}  `
  output.write(`${rest}\n\n${legend}${painters.dim(notes)}\n`)
}

/** The text, and below each line the depth of the token that completed each character; the prompt has no depths. */
export function textOverDepths(prompt: string, pieces: readonly Piece[]): string {
  let text = prompt
  let depths = ' '.repeat(prompt.length)
  for (const piece of pieces) {
    text += piece.text
    depths += String(Math.min(piece.depth, 9)).repeat(piece.text.length)
  }
  let start = 0
  const lines = text.split('\n').map((line) => {
    const under = depths.slice(start, start + line.length).trimEnd()
    start += line.length + 1
    return under === '' ? line : `${line}\n${under}`
  })
  return lines.join('\n')
}

function summary(pieces: readonly Piece[], seconds: number, finishReason: string, withDepth: boolean): string {
  const mean = pieces.reduce((sum, piece) => sum + piece.depth, 0) / Math.max(1, pieces.length)
  return [
    `${pieces.length} tokens`,
    `${(pieces.length / seconds).toFixed(1)} tokens/s`,
    `ended by ${finishReason}`,
    ...(withDepth ? [`mean depth ${mean.toFixed(2)}`] : []),
  ].join('  ')
}
