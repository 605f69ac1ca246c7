// A training run as a report shows it: its name, model, measurements and results.
import { stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { readRunRecord, runFiles } from '../cli/run_folder.js'
import type { ResolvedConfig } from '../config.js'
import { configFileName, readConfigFile } from '../config_file.js'
import { MorError } from '../errors.js'
import { exists } from '../exists.js'
import { finishSave } from '../unfinished_save.js'
import { type RunMetrics, readMetrics } from './metrics.js'
import { type RunResults, readResults } from './results.js'

export interface Run {
  /** Differs from those of the other runs of a report. */
  name: string
  metrics: RunMetrics
  /** Those at which the run ends; null where no run.json tells. */
  plannedSteps: number | null
  results: RunResults
  /** Null before the first checkpoint. */
  checkpoint: { folder: string; config: ResolvedConfig } | null
}

/**
 * A run is named after its folder, or after the path that was given where several folders have one name.
 * @throws {MorError} INVALID_ARGUMENT for a folder that is given twice or has no measurements; CHECKPOINT_MISSING for one that is
 * no run; as `readMetrics`, `readResults` and `readConfigFile`
 */
export async function readRuns(folders: readonly string[], signal: AbortSignal): Promise<Run[]> {
  const paths = folders.map((folder) => resolve(folder))
  const repeated = folders.find((_, i) => paths.indexOf(paths[i]!) < i)
  if (repeated !== undefined) throw new MorError('INVALID_ARGUMENT', `the run ${repeated} is given twice: give it once`)
  const names = paths.map((path) => basename(path))
  const runs: Run[] = []
  for (const [i, folder] of folders.entries()) {
    const name = names.filter((other) => other === names[i]).length > 1 ? folder : names[i]!
    runs.push(await readRun(folder, name, signal))
  }
  return runs
}

async function readRun(folder: string, name: string, signal: AbortSignal): Promise<Run> {
  const kind = await stat(folder).catch(() => null)
  if (kind === null) throw new MorError('CHECKPOINT_MISSING', `there is no run at ${folder}: no such folder`)
  if (!kind.isDirectory())
    throw new MorError('CHECKPOINT_MISSING', `${folder} is a file: give the folder of a run, the --output of mor train`)
  const files = runFiles(folder)
  if (!(await exists(files.metrics))) {
    const advice = 'give the folder of a run, the --output of mor train'
    throw new MorError('CHECKPOINT_MISSING', `${folder} is no run, since it holds no metrics.jsonl: ${advice}`)
  }
  const metrics = await readMetrics(files.metrics, signal)
  if (metrics.steps.length === 0) {
    const advice = 'leave this run out, or wait until it has trained'
    throw new MorError('INVALID_ARGUMENT', `${files.metrics} records no training step yet: ${advice}`)
  }
  await finishSave(files.checkpoint)
  // A process that was killed in its first save leaves a folder without a checkpoint.
  const isSaved = await exists(join(files.checkpoint, configFileName))
  return {
    name,
    metrics,
    // Measurements alone make a report: nothing else in it needs run.json.
    plannedSteps: await readRunRecord(folder).then(
      ({ settings }) => settings.steps,
      () => null,
    ),
    results: await readResults(join(folder, 'results.json')),
    checkpoint: isSaved ? { folder: files.checkpoint, config: await readConfigFile(files.checkpoint) } : null,
  }
}
