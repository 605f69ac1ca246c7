// Draws charts as SVG with Vega, without a browser.
import type * as Vega from 'vega'
import { MorError, throwIfAborted } from '../errors.js'
import type { Chart } from './chart.js'
import { vegaSpec } from './vega_spec.js'

/**
 * The SVG of each chart.
 * @throws {MorError} INVALID_ARGUMENT where the package vega is not installed; ABORTED
 */
export async function drawCharts(charts: readonly Chart[], signal: AbortSignal): Promise<string[]> {
  const vega = await loadVega()
  const pictures: string[] = []
  for (const chart of charts) {
    throwIfAborted(signal, 'drawing the charts')
    const view = new vega.View(vega.parse(vegaSpec(chart)), { renderer: 'none' })
    pictures.push(await view.toSVG())
    view.finalize()
  }
  return pictures
}

async function loadVega(): Promise<typeof Vega> {
  try {
    return await import('vega')
  } catch (error) {
    const message = `charts need the package vega: npm install vega (${(error as Error).message})`
    throw new MorError('INVALID_ARGUMENT', message, { cause: error })
  }
}
