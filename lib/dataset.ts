// The public face of token datasets: text goes in once, rows of token ids come out.
// Must not know: models, training.
export { type BuildDatasetOptions, type BuildProgress, buildDataset } from './dataset/build.js'
export { Dataset, type DatasetOptions, type DatasetState } from './dataset/dataset.js'
export { type DatasetInfo, type DatasetSplit, readDatasetInfo, type SplitName } from './dataset/format.js'
