// `mor inspect`: what a model is and what it costs, from its configuration, and the running thresholds in its weights.
import { modelKind, type ResolvedConfig } from '../config.js'
import { layerMap } from '../layer_map.js'
import { flopsPerToken, kvBytesPerToken, parameterCount } from '../model_size.js'
import type { DType } from '../native/model.js'
import { findConfig } from './config_source.js'
import { formatBytes, formatCount } from './format.js'
import type { Output } from './output.js'
import { readThresholds, selectsByThreshold } from './thresholds.js'

export interface InspectOptions {
  /** Sequence length for the FLOPs. Default: the context length. */
  length?: number
  dtype: DType
}

export async function inspect(source: string, { length, dtype }: InspectOptions, output: Output): Promise<void> {
  const config = await findConfig(source)
  const described = describeModel(config, length ?? config.max_position_embeddings, dtype)
  const report = { ...described, routerThresholds: await readThresholds(source, config) }
  output.event(report, formatReport(source, config, report))
}

/** Everything that `mor inspect` shows, as data. `layers[l]` is the unique layer at effective depth l. */
export function describeModel(config: ResolvedConfig, length: number, dtype: DType) {
  const map = layerMap(config)
  return {
    type: 'inspect' as const,
    kind: modelKind(config),
    parameters: parameterCount(config),
    layers: map.map((layer) => layer.unique),
    recursion: map.map((layer) => layer.recursion),
    kvBytesPerToken: { dtype, bytes: kvBytesPerToken(config, dtype) },
    flopsPerToken: { length, ...flopsPerToken(config, length) },
  }
}

type Report = ReturnType<typeof describeModel> & { routerThresholds: number[] | null }

function formatReport(source: string, config: ResolvedConfig, report: Report): string {
  const { parameters, kvBytesPerToken: kv, flopsPerToken: flops, routerThresholds } = report
  const kind = {
    vanilla: 'vanilla',
    recursive: `recursive, ${config.num_recursions} recursions, ${config.sharing}`,
    mor: `Mixture-of-Recursions, ${config.num_recursions} recursions, ${config.sharing}, ${config.router?.type} routing${selectsByThreshold(config) ? ' by threshold' : ''}, ${config.kv_cache} KV cache`,
  }[report.kind]
  const rows = [
    ['model', `${source}: ${kind}`],
    ['parameters', `${formatCount(parameters.total)} (${parameters.total.toLocaleString('en')})`],
    [
      '',
      `embedding ${formatCount(parameters.embedding)}, ${parameters.uniqueLayers} unique layers of ${formatCount(parameters.layer)}, routers ${formatCount(parameters.routers)}, output projection ${formatCount(parameters.outputProjection)}`,
    ],
    ['layer map', formatLayerMap(config)],
    ...(routerThresholds === null
      ? []
      : [
          ['thresholds', `${routerThresholds.map((value) => value.toFixed(4)).join(' ')}, scores of recursions 1 to N`],
        ]),
    ['KV cache', `${formatBytes(kv.bytes)} per token of context in ${kv.dtype}, mean over tokens`],
    [
      'FLOPs',
      `${formatCount(flops.forward)} forward, ${formatCount(flops.training)} training, per token of a sequence of ${flops.length}, head included`,
    ],
    [
      '',
      `layers ${formatCount(flops.layers)}, attention ${formatCount(flops.attention)}, routers ${formatCount(flops.router)}, head ${formatCount(flops.head)}`,
    ],
  ]
  return rows.map(([name, text]) => `${name!.padEnd(11)} ${text}`).join('\n')
}

/** Unique layers in the order in which they run, with a bar between recursions: `0 | 1 2 | 1 2 | 1 2 | 3`. */
export function formatLayerMap(config: ResolvedConfig): string {
  const map = layerMap(config)
  return map
    .map((layer, l) => `${l > 0 && layer.recursion !== map[l - 1]!.recursion ? '| ' : ''}${layer.unique}`)
    .join(' ')
}
