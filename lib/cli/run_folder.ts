// The folder of a training run: its files, and the record from which a run is resumed.
import { createWriteStream } from 'node:fs'
import { appendFile, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { isDeepStrictEqual } from 'node:util'
import { isObject } from '../check.js'
import { partialFolder } from '../dataset/build.js'
import { ifGone, MorError, toMorError } from '../errors.js'
import { exists } from '../exists.js'
import { fileLines } from '../file_lines.js'
import { withoutByteOrderMark } from '../json_file.js'
import { makeFolder } from '../make_folder.js'
import { trainerFileName } from '../trainer_checkpoint.js'
import { finishSave } from '../unfinished_save.js'
import type { RunRanks } from './ranks.js'
import type { DataFolders, DataState } from './run_data.js'

/** The options of a run that the trainer does not save itself. */
export interface RunSettings {
  /** The token dataset, or those that are mixed. Folders are relative to that of the run. */
  dataset: DataFolders
  /** The checkpoint of the teacher, relative to the folder of the run; a run without one has none. */
  teacher?: string
  /** Tokens of a row. */
  length: number
  batchSize: number
  gradientAccumulation: number
  steps: number
  /** Seed of the order of the data. */
  seed: number
  /** Steps between evaluations, most batches of one, and steps between checkpoints. */
  evalEvery: number
  evalBatches: number
  saveEvery: number
}

/** The content of run.json. `positions` holds the position in the data after the steps of the last two checkpoints. */
export interface RunRecord {
  settings: RunSettings
  positions: { step: number; data: DataState }[]
}

export function runFiles(folder: string) {
  return {
    record: join(folder, 'run.json'),
    metrics: join(folder, 'metrics.jsonl'),
    dataset: join(folder, 'dataset'),
    checkpoint: join(folder, 'checkpoint'),
  }
}

/** Throws `CHECKPOINT_MISSING` if the folder holds no run, `CHECKPOINT_INVALID` if its record is damaged. */
export async function readRunRecord(folder: string): Promise<RunRecord> {
  const { record: path, dataset } = runFiles(folder)
  const text = await readFile(path, 'utf8').catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw toMorError(error, path)
    // A run that is stopped while its text is prepared, or its model made, has no record yet.
    const hasData = (await exists(dataset)) || (await exists(partialFolder(dataset)))
    const advice = hasData
      ? `it was stopped before it began: give its first command again, which goes on from ${dataset}`
      : 'give the --output of a run, or start one without --resume'
    throw new MorError('CHECKPOINT_MISSING', `there is no run to resume in ${folder}: ${path} is missing; ${advice}`)
  })
  try {
    const record: RunRecord = JSON.parse(withoutByteOrderMark(text))
    if (!isObject(record?.settings) || !Array.isArray(record.positions) || !record.positions.every(isObject))
      throw new Error('it has no settings or positions')
    return record
  } catch (error) {
    throw new MorError('CHECKPOINT_INVALID', `${path} is damaged: ${(error as Error).message}`)
  }
}

/** It is on the disk before the checkpoint that it belongs to. */
export async function writeRunRecord(folder: string, record: RunRecord): Promise<void> {
  const { record: path } = runFiles(folder)
  try {
    await writeFile(`${path}.partial`, `${JSON.stringify(record, null, 2)}\n`, { flush: true })
    await rename(`${path}.partial`, path)
  } catch (error) {
    throw toMorError(error, path)
  }
}

/**
 * Records the position in the data before the checkpoint of `step` is saved, and keeps that of the checkpoint before. So
 * the position is known for whichever of the two a crash leaves.
 */
export async function recordPosition(
  folder: string,
  record: RunRecord,
  step: number,
  data: DataState,
): Promise<RunRecord> {
  const earlier = record.positions.filter((position) => position.step < step).slice(-1)
  const next = { ...record, positions: [...earlier, { step, data }] }
  await writeRunRecord(folder, next)
  return next
}

/** The record of a run that goes on from the checkpoint of `step`: without positions of later ones, whose saves failed. */
export function resumedRecord(record: RunRecord, step: number): RunRecord {
  return { ...record, positions: record.positions.filter((position) => position.step <= step) }
}

/** The position in the data after `step` steps. Throws `CHECKPOINT_INVALID` if the record does not have it. */
export function positionAt(record: RunRecord, step: number): DataState {
  const position = record.positions.find((candidate) => candidate.step === step)
  if (position) return position.data
  const known = record.positions.map((candidate) => candidate.step).join(' and ') || 'none'
  throw new MorError(
    'CHECKPOINT_INVALID',
    `the checkpoint is of step ${step}, but run.json knows the place in the data for ${known}: checkpoint and run.json are not of one run`,
  )
}

/** Throws `INVALID_ARGUMENT` if the folder already holds a run, or is a file. */
export async function checkNoRun(folder: string): Promise<void> {
  const kind = await stat(folder).catch(() => null)
  if (kind !== null && !kind.isDirectory())
    throw new MorError('INVALID_ARGUMENT', `${folder} is a file: give a folder for the run as --output`)
  const path = runFiles(folder).record
  if (!(await exists(path))) return
  const record = await readRunRecord(folder).catch(() => null)
  const goesOn =
    record === null || (await hasSaved(folder, record))
      ? 'continue it with --resume'
      : `it has no checkpoint: unless it still goes on, delete ${path} and start again`
  throw new MorError('INVALID_ARGUMENT', `${folder} already holds a run: ${goesOn}, or choose another --output`)
}

/**
 * Whether the run in `folder` came to its first checkpoint. A process that is killed in the middle of a save leaves the folder of
 * the checkpoint without one.
 */
export async function hasSaved(folder: string, record: RunRecord): Promise<boolean> {
  if (record.positions.length === 0) return false
  const { checkpoint } = runFiles(folder)
  await finishSave(checkpoint)
  return exists(join(checkpoint, trainerFileName))
}

/**
 * Makes `folder`, if it is not there, for all ranks to save into. Throws `IO_ERROR` on all of them where one does not find what rank 0
 * has just made there: at once, since the first checkpoint, which would fail by it, comes after much work.
 */
export async function makeShared(folder: string, ranks: RunRanks): Promise<void> {
  // A new name, which no rank has asked for: network file systems remember for a while what was not there.
  const name = await ranks.first(async () => {
    try {
      await makeFolder(folder)
      return basename(await mkdtemp(join(folder, '.shared-')))
    } catch (error) {
      throw toMorError(error)
    }
  })
  const path = join(folder, name)
  try {
    await ranks.together(async () => {
      await stat(path).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw toMorError(error)
        throw new MorError(
          'IO_ERROR',
          `${path} is not there, though rank 0 has just made it: give all ranks the same folder as --output, on several machines by a network file system`,
        )
      })
    })
  } finally {
    if (ranks.rank === 0) await rm(path, { recursive: true, force: true }).catch(() => {})
  }
}

/** For a new run: the folder may hold the metrics of one that was given up. */
export async function emptyMetrics(folder: string): Promise<void> {
  const { metrics } = runFiles(folder)
  await writeFile(metrics, '').catch((error: unknown) => {
    throw toMorError(error, metrics)
  })
}

/**
 * Removes from metrics.jsonl what a resumed run writes again: the records after `step`, steps refused behind `place` in the data, and an
 * incomplete last line. Returns whether an evaluation of `step` is among the others.
 */
export async function trimMetrics(folder: string, step: number, place: DataState): Promise<boolean> {
  const { metrics } = runFiles(folder)
  let isEvaluated = false
  let refused = ''
  async function* kept(): AsyncGenerator<string> {
    if ((await stat(metrics).catch(ifGone(null))) === null) return
    for await (const { text } of fileLines(metrics)) {
      const record = recordIn(text)
      if (record === null || !(record.step <= step)) continue
      if (record.type === 'refused' && record.step === step) {
        refused += `${text}\n`
        if (!isDeepStrictEqual(record.data, place)) continue
        yield refused
        refused = ''
        continue
      }
      isEvaluated ||= record.type === 'evaluation' && record.step === step
      yield `${text}\n`
    }
  }
  try {
    await pipeline(kept, createWriteStream(`${metrics}.partial`))
    await rename(`${metrics}.partial`, metrics)
  } catch (error) {
    await rm(`${metrics}.partial`, { force: true }).catch(() => {})
    throw toMorError(error, metrics)
  }
  return isEvaluated
}

/** Null for a line that was cut short. */
function recordIn(line: string): { type?: unknown; step: number; data?: unknown } | null {
  try {
    return JSON.parse(line)
  } catch {
    return null
  }
}

export async function appendMetrics(folder: string, record: object): Promise<void> {
  const { metrics } = runFiles(folder)
  await appendFile(metrics, `${JSON.stringify(record)}\n`).catch((error: unknown) => {
    throw toMorError(error, metrics)
  })
}
