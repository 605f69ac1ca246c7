// The part of a report's page that shows which tokens and words of a text run how deep.
import type { DeepToken } from './depth_map.js'
import { escapeHtml, tableOf } from './html.js'
import { type WordDepth, wordDepths } from './words.js'

export interface DepthMap {
  /** Name of the run. */
  run: string
  recursions: number
  tokens: DeepToken[]
}

/** Rows of a table of words. */
const WORDS = 15

/** @param source what the text is, for readers */
export function depthSection(maps: readonly DepthMap[], source: string): string {
  const deepest = Math.max(...maps.map(({ recursions }) => recursions))
  return [
    '<section><h2>Which words think longest</h2>',
    `<p>${escapeHtml(source)}. A token’s shade is the number of recursions that it ran itself when the model read it, with causal routing.</p>`,
    '<p><label><input type="checkbox" id="numbers"> Show the depths as numbers</label></p>',
    ...maps.map((map, i) => mapPart(map, i === 0)),
    `<style>${shadeRules(maps, deepest)}</style>`,
    '</section>',
  ].join('\n')
}

/** A model's own number of recursions is the deepest shade. */
function shadeRules(maps: readonly DepthMap[], deepest: number): string {
  const counts = [...new Set(maps.map(({ recursions }) => recursions))]
  const rules = counts.flatMap((recursions) =>
    Array.from({ length: deepest }, (_, i) => {
      const share = Math.min(i / (recursions - 1), 1)
      return `.of-${recursions} [data-depth="${i + 1}"]{--share:${share.toFixed(3)}}`
    }),
  )
  return rules.join('')
}

function mapPart({ run, recursions, tokens }: DepthMap, open: boolean): string {
  const swatches = Array.from({ length: recursions }, (_, i) => {
    return `<span class="swatch" data-depth="${i + 1}">${i + 1}</span>`
  })
  const words = wordDepths(tokens)
  const shallowest = words.slice(-WORDS).reverse()
  return [
    `<details class="of-${recursions}"${open ? ' open' : ''}><summary>${escapeHtml(run)}</summary>`,
    `<p>Recursions, from shallow to deep: ${swatches.join('')}</p>`,
    `<div class="text">${tokens.map(tokenSpan).join('')}</div>`,
    '<div class="tables">',
    wordTable('Words of the largest mean depth', words.slice(0, WORDS)),
    wordTable('Words of the least mean depth', shallowest),
    '</div></details>',
  ].join('\n')
}

function tokenSpan({ text, depth }: DeepToken): string {
  const name = text.includes('\n') ? 'token line-end' : 'token'
  return `<span class="${name}" data-depth="${depth}">${escapeHtml(text)}</span>`
}

function wordTable(caption: string, words: readonly WordDepth[]): string {
  const rows = words.map(({ word, count, meanDepth }) => [word, meanDepth.toFixed(2), String(count)])
  return tableOf(caption, ['word', 'mean depth', 'occurrences'], rows)
}
