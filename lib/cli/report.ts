// `mor report`: draws training runs as one HTML page, and as SVG files where they are asked for.
import { rm, writeFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { checkAbsent, makeOutput } from '../convert/new_output.js'
import { MorError, throwIfAborted } from '../errors.js'
import type { LoadOptions } from '../model.js'
import { chartsOf } from '../report/charts.js'
import { hasDepths, MOST_CHARACTERS, mapDepths, readBeginning } from '../report/depth_map.js'
import { type DepthMap, depthSection } from '../report/depth_section.js'
import { drawCharts } from '../report/draw.js'
import { makePage } from '../report/page.js'
import { type Run, readRuns } from '../report/run.js'
import { summaryTable } from '../report/summary.js'
import type { Output } from './output.js'

export interface ReportCommandOptions extends Pick<LoadOptions, 'device' | 'dtype' | 'threads' | 'nice'> {
  /** The HTML file to make. */
  output: string
  /** A folder to make, with an SVG file of each chart. */
  svg?: string
  /** A text whose depths are shown. */
  text?: string
}

/**
 * Nothing that is there is overwritten, and where something is wrong nothing is left.
 * @throws {MorError} INVALID_ARGUMENT where an output is there already, and what its parts throw
 */
export async function report(
  folders: readonly string[],
  { output: file, svg: folder, text: textFile, ...load }: ReportCommandOptions,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  await checkAbsent(file, 'file')
  if (folder !== undefined) {
    await checkAbsent(folder, 'folder')
    if (resolve(folder) === resolve(file))
      throw new MorError(
        'INVALID_ARGUMENT',
        `--output and --svg are both ${file}: give the folder of the pictures another name`,
      )
  }
  const runs = await readRuns(folders, signal)
  const charts = chartsOf(runs)
  const pictures = await drawCharts(charts, signal)
  const maps = textFile === undefined ? [] : await mapRuns(runs, textFile, { ...load, signal }, output)
  const notes = runs.flatMap((run) => notesOf(run, textFile !== undefined))
  const page = await makePage({
    runs: runs.map(({ name }) => name),
    summary: summaryTable(runs),
    notes,
    charts: charts.map((chart, i) => ({ chart, svg: pictures[i]! })),
    depths:
      maps.length === 0
        ? ''
        : depthSection(maps, `${basename(textFile!)}, at most its first ${MOST_CHARACTERS} characters`),
  })
  throwIfAborted(signal, 'the report')
  if (folder !== undefined) {
    await makeOutput(folder, 'folder', async (staging) => {
      for (const [i, { name }] of charts.entries()) await writeFile(join(staging, `${name}.svg`), pictures[i]!)
      return staging
    })
  }
  try {
    await makeOutput(file, 'file', async (staging) => {
      const path = join(staging, basename(file))
      await writeFile(path, page)
      return path
    })
  } catch (error) {
    if (folder !== undefined) await rm(folder, { recursive: true, force: true })
    throw error
  }
  output.end()
  const counts = { runs: runs.length, charts: charts.length, depthMaps: maps.length }
  output.event(
    { type: 'report', output: file, svg: folder ?? null, ...counts, notes },
    [...notes, `written: ${file}, ${runs.length} runs, ${charts.length} charts, ${maps.length} depth maps`].join('\n'),
  )
}

async function mapRuns(
  runs: readonly Run[],
  file: string,
  options: Parameters<typeof mapDepths>[2],
  output: Output,
): Promise<DepthMap[]> {
  const text = await readBeginning(file, options.signal)
  const maps: DepthMap[] = []
  for (const { name, checkpoint } of runs) {
    if (checkpoint === null || !hasDepths(checkpoint.config)) continue
    output.progress({ type: 'reading', run: name, text: file }, `${name} reads ${file}`)
    const tokens = await mapDepths(checkpoint.folder, text, options)
    maps.push({ run: name, recursions: checkpoint.config.num_recursions, tokens })
  }
  return maps
}

/** @param wantsMap a depth map of the run was asked for */
function notesOf({ name, metrics, plannedSteps, checkpoint }: Run, wantsMap: boolean): string[] {
  const { refused, missingLosses, missing } = metrics
  const { step } = metrics.steps.at(-1)!
  return [
    ...(plannedSteps !== null && step < plannedSteps ? [`${name} is at step ${step} of ${plannedSteps}`] : []),
    ...(missing !== null
      ? [
          `${name}: steps missing in metrics.jsonl: ${missing.steps}; tokens, FLOPs and seconds are too low from step ${missing.from} on`,
        ]
      : []),
    ...(refused > 0 ? [`${name}: steps refused because loss or gradient was not finite: ${refused}`] : []),
    ...(missingLosses > 0 ? [`${name}: losses left out because they are no finite numbers: ${missingLosses}`] : []),
    ...(wantsMap && checkpoint === null ? [`${name} has no checkpoint yet, and so no depth map`] : []),
    ...(wantsMap && checkpoint !== null && !hasDepths(checkpoint.config)
      ? [`${name} has no depth map, since all tokens of its model run alike`]
      : []),
  ]
}
