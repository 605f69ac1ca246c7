// `mor convert`: makes a checkpoint of another one, and shows what each of its layers is made of.
import { modelKind } from '../config.js'
import { type ConvertOptions, type ConvertResult, convert } from '../convert.js'
import { formatBytes } from './format.js'
import { formatLayerMap } from './inspect.js'
import type { Output } from './output.js'

export interface ConvertCommandOptions extends Omit<ConvertOptions, 'output' | 'router' | 'signal'> {
  router?: 'expert_choice' | 'token_choice'
}

export async function convertCheckpoint(
  checkpoint: string,
  target: string,
  { router, ...options }: ConvertCommandOptions,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const all = { ...options, output: target, router: router === undefined ? null : { type: router }, signal }
  const { config, layers, bytes } = await convert(checkpoint, all)
  const kind = modelKind(config)
  output.event(
    { type: 'convert', output: target, kind, layers, bytes },
    formatResult(target, { config, layers, bytes }),
  )
}

function formatResult(target: string, { config, layers, bytes }: ConvertResult): string {
  const rows = [
    ['written', `${target}: ${modelKind(config)}, ${formatBytes(bytes)}`],
    ['layer map', formatLayerMap(config)],
    ['made of', layers.map((of, unique) => `${unique} = ${of.join('+')}`).join(', ')],
  ]
  return rows.map(([name, text]) => `${name!.padEnd(11)} ${text}`).join('\n')
}
