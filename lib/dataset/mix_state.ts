// The position in a mix of datasets as plain JSON, and whether it belongs to a mix.
import { createHash } from 'node:crypto'
import { show } from '../check.js'
import { MorError } from '../errors.js'
import type { DatasetSplit } from './format.js'

/** The position from which `DatasetMix.next` continues. */
export interface DatasetMixState {
  length: number
  seed: number
  datasets: DatasetPosition[]
}

export interface DatasetPosition {
  folder: string
  weight: number
  /** Of the content of the split (`checksumOf`). */
  checksum: string
  /** Rows taken so far. */
  rows: number
  epoch: number
  index: number
}

/** Equal checksums mean equal shards. */
export function checksumOf({ tokens, shards }: DatasetSplit): string {
  const content = JSON.stringify([tokens, ...shards.map(({ sha256 }) => sha256)])
  return createHash('sha256').update(content).digest('hex').slice(0, 16)
}

/**
 * The folders of the datasets may differ, so that they can be moved.
 * @throws {MorError} INVALID_ARGUMENT with both values where `saved` is of another mix than `own`
 */
export function checkSameMix(own: DatasetMixState, saved: DatasetMixState): void {
  if (!Array.isArray(saved?.datasets)) refuse(`the saved state is ${show(saved)}; give what state() returned`)
  for (const key of ['length', 'seed'] as const) {
    if (saved[key] !== own[key]) refuse(`its ${key} is ${own[key]}, that of the saved state ${show(saved[key])}`)
  }
  if (saved.datasets.length !== own.datasets.length)
    refuse(`it has ${foldersOf(own)}, the saved state ${foldersOf(saved)}`)
  for (const [i, { folder, weight, checksum }] of own.datasets.entries()) {
    const then = saved.datasets[i]!
    if (typeof then !== 'object' || then === null)
      refuse(`the saved state of ${folder} is ${show(then)}; give what state() returned`)
    if (then.checksum !== checksum) {
      refuse(
        `dataset ${i + 1} is ${folder} (checksum ${checksum}), that of the saved state ${then.folder} (checksum ${then.checksum})`,
      )
    }
    if (then.weight !== weight) refuse(`the weight of ${folder} is ${weight}, that of the saved state ${then.weight}`)
    if (!Number.isSafeInteger(then.rows) || then.rows < 0)
      refuse(`the saved state has taken ${show(then.rows)} rows of ${folder}; it must be an integer from 0`)
  }
}

function foldersOf({ datasets }: DatasetMixState): string {
  return `${datasets.length} datasets (${datasets.map(({ folder }) => folder).join(', ')})`
}

function refuse(reason: string): never {
  throw new MorError('INVALID_ARGUMENT', `cannot go on in this mix of datasets: ${reason}`)
}
