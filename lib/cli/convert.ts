// `mor convert`: makes a checkpoint of another one, and shows what each of its layers is made of.
import { modelKind } from '../config.js'
import type { ExpertChoiceConfig, RouterConfig } from '../config_router.js'
import { type ConvertOptions, type ConvertResult, convert } from '../convert.js'
import { MorError } from '../errors.js'
import { formatBytes } from './format.js'
import { formatLayerMap } from './inspect.js'
import type { Output } from './output.js'

export interface ConvertCommandOptions extends Omit<ConvertOptions, 'output' | 'router' | 'signal'> {
  router?: RouterConfig['type']
  /** Of an expert-choice router, like the next. */
  selection?: ExpertChoiceConfig['selection']
  auxiliaryLoss?: number
}

export async function convertCheckpoint(
  checkpoint: string,
  target: string,
  { router, selection, auxiliaryLoss, ...options }: ConvertCommandOptions,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const all = { ...options, output: target, router: routerOf({ router, selection, auxiliaryLoss }), signal }
  const { config, layers, bytes } = await convert(checkpoint, all)
  const kind = modelKind(config)
  output.event(
    { type: 'convert', output: target, kind, layers, bytes },
    formatResult(target, { config, layers, bytes }),
  )
}

function routerOf({ router, selection, auxiliaryLoss }: ConvertCommandOptions): RouterConfig | null {
  const own = {
    ...(selection !== undefined && { selection }),
    ...(auxiliaryLoss !== undefined && { auxiliary_loss_coefficient: auxiliaryLoss }),
  }
  if (Object.keys(own).length > 0 && router !== 'expert_choice') {
    throw new MorError(
      'INVALID_ARGUMENT',
      `--router is ${router ?? 'not given'}: --selection and --auxiliary-loss are options of expert_choice alone`,
    )
  }
  return router === undefined ? null : { type: router, ...own }
}

function formatResult(target: string, { config, layers, bytes }: ConvertResult): string {
  const rows = [
    ['written', `${target}: ${modelKind(config)}, ${formatBytes(bytes)}`],
    ['layer map', formatLayerMap(config)],
    ['made of', layers.map((of, unique) => `${unique} = ${of.join('+')}`).join(', ')],
  ]
  return rows.map(([name, text]) => `${name!.padEnd(11)} ${text}`).join('\n')
}
