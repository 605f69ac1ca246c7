// The tensors of a model as they are made of those of another: which ones are copied, averaged, or new.
import type { ResolvedConfig } from '../config.js'
import { toNativeConfig } from '../config_native.js'
import { wrapNative } from '../errors.js'
import type { NativeDerivedTensor, SafetensorsFloat } from '../native/files.js'
import type { NativeParameter } from '../native/model.js'
import { loadNative } from '../native_loader.js'
import { routerElements } from './router_start.js'
import type { SourceTensor, WeightSource } from './source.js'

/** A tensor of the new model, without the file that it goes to. */
export type NewTensor = Omit<NativeDerivedTensor, 'padding'> & { shape: number[] }

/**
 * Every tensor of `config` in the order of its checkpoint.
 * @param layers for each unique layer those of the source whose mean it is
 * @param dtype of the tensors; null: each as the source has it, routers as the embedding
 */
export function newTensors(
  source: WeightSource,
  config: ResolvedConfig,
  layers: readonly (readonly number[])[],
  dtype: SafetensorsFloat | null,
): NewTensor[] {
  const table = wrapNative(() => loadNative().parameterTable(toNativeConfig(config), 'bfloat16'))
  return table.map((parameter, stream) => {
    const { name, shape } = parameter
    const sources = namesIn(parameter, layers).map((from) => source.tensors.get(from)!)
    const chosen = dtype ?? commonDtype(sources) ?? source.dtype
    if (sources.length > 0) return { name, shape, dtype: chosen, ...taken(sources) }
    const elements = routerElements(parameter, config, stream)
    // The bias of loss-free balancing and running thresholds are float32 in every model.
    return { name, shape, dtype: parameter.dtype === 'F32' ? 'F32' : chosen, sources: [], ...elements }
  })
}

/** The names of the tensors that `parameter` is the mean of; none for one that the source does not have. */
function namesIn({ name, layer, role, trained }: NativeParameter, layers: readonly (readonly number[])[]): string[] {
  if (role === 'router' || !trained) return []
  if (layer === null) return [name]
  return layers[layer]!.map((from) => name.replace(/^(model\.layers\.)\d+/, `$1${from}`))
}

/** The widest type where the sources have several. */
function commonDtype(sources: readonly SourceTensor[]): SafetensorsFloat | null {
  const dtypes = new Set(sources.map(({ dtype }) => dtype))
  if (dtypes.size === 0) return null
  return dtypes.size === 1 ? sources[0]!.dtype : 'F32'
}

function taken(sources: readonly SourceTensor[]): Pick<NativeDerivedTensor, 'sources' | 'rowOrder'> {
  const heads = sources[0]!.interleavedHeads
  const places = sources.map(({ path, name, dtype, offset }) => ({ path, name, dtype, offset }))
  return heads === undefined ? { sources: places } : { sources: places, rowOrder: { heads, interleaves: false } }
}
