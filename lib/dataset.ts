// The public interface of token datasets: they are built from text once, and return rows of token ids.
export { buildDataset } from './dataset/build.js'
export type { BuildDatasetOptions, BuildProgress } from './dataset/build_options.js'
export { Dataset, type DatasetOptions, type DatasetState } from './dataset/dataset.js'
export type { TextFormat } from './dataset/file_kind.js'
export {
  type DatasetInfo,
  type DatasetSplit,
  readDatasetInfo,
  type SplitName,
  verifyDataset,
} from './dataset/format.js'
export { DatasetMix, type MixPart, type SeenTokens, type WeightedDataset } from './dataset/mix.js'
export type { DatasetMixState, DatasetPosition } from './dataset/mix_state.js'
