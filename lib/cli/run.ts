// A run of `mor train` when it is about to take steps, and what new and resumed ones have in common.
import type { ResolvedConfig } from '../config.js'
import { checksumOf } from '../dataset/mix_state.js'
import type { DatasetInfo } from '../dataset.js'
import type { DistributedOptions } from '../distributed.js'
import type { Trainer } from '../trainer.js'
import type { RunRanks } from './ranks.js'
import { type DataFolders, foldersOf, type RunData } from './run_data.js'
import type { RunRecord } from './run_folder.js'
import type { TrainOptions } from './train_options.js'

export interface Run {
  /** Keeps other processes from writing into the folder of the run. Null on ranks other than 0. */
  held: AsyncDisposable | null
  trainer: Trainer
  record: RunRecord
  /** Open, at the place to continue from. */
  data: RunData
  /** Of one micro-batch of this rank. */
  rows: number
  /** Whether the evaluation after the last step was due and was not made, because the run was stopped. */
  owesEvaluation: boolean
}

/** What must be the same on all ranks: of the model, and of the text that it learns from. */
export function identityOf(
  config: ResolvedConfig,
  dataset: DataFolders,
  infos: readonly DatasetInfo[],
): Record<string, unknown> {
  const keys = Object.entries(config).map(([key, value]) => [`${key} of the model`, value])
  const texts = foldersOf(dataset).map((folder, i) => [
    `the checksum of the dataset ${folder}`,
    checksumOf(infos[i]!.splits.train),
  ])
  return Object.fromEntries([...keys, ...texts])
}

export function distributedOf({ gradientDtype }: TrainOptions, { ranks }: RunRanks): DistributedOptions | null {
  return ranks && { ranks, gradientDtype }
}

export function modelsOf({ model, teacher }: Trainer): AsyncDisposable {
  return {
    async [Symbol.asyncDispose]() {
      await model.dispose()
      await teacher?.dispose()
    },
  }
}

/** Disposes `resource` if `make` fails. */
export async function disposing<T>(resource: AsyncDisposable | null | undefined, make: () => Promise<T>): Promise<T> {
  try {
    return await make()
  } catch (error) {
    await resource?.[Symbol.asyncDispose]()
    throw error
  }
}
