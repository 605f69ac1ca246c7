// Studies: training runs that take hours, stop and go on, and leave one committed result each.
//
//   npm run study -- run quality --books <folder>     what is not done yet, in the order of the manifest
//   npm run study -- serve quality                    tokens/s of the models that are there, in one process each
//   npm run study -- time quality                     seconds of a training step of these models, likewise
//   npm run study -- knobs quality --only <one run>   its model at every threshold and number of recursions
//   npm run study -- table quality                    the results as a Markdown table
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { qualityRuns } from '../quality/manifest.js'
import { uptrainRuns } from '../uptrain/manifest.js'
import { root } from './command_line.js'
import { prepareCorpus, tasksFile } from './corpus.js'
import { measureKnobs } from './knobs.js'
import { checkpointOf, finishRun, hasModel, type Places, readResult, trainRun } from './run.js'
import { serveRuns } from './serving.js'
import { timeSteps } from './step_times.js'
import { idOf, neededBy, type StudyRun } from './study.js'
import { kindsTable, markdownTable } from './table.js'

const studies: Record<string, readonly StudyRun[]> = {
  quality: qualityRuns,
  uptrain: uptrainRuns,
}

const usage = `usage: npm run study -- run | serve | time | knobs | table  ${Object.keys(studies).join(' | ')}
  --only <text>     runs whose name contains it
  --books <folder>  train-*.jsonl.xz and val.jsonl.xz, for run
  --work <folder>   where runs are kept; default: runs/study`

/** Null for options that there are not. */
function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        only: { type: 'string', default: '' },
        books: { type: 'string' },
        work: { type: 'string', default: join(root, 'runs', 'study') },
      },
    })
  } catch {
    return null
  }
}

async function main(): Promise<void> {
  const given = parse(process.argv.slice(2))
  if (given === null) {
    console.error(usage)
    process.exitCode = 2
    return
  }
  const { positionals, values } = given
  const [command = '', study = ''] = positionals
  const all = Object.hasOwn(studies, study) ? studies[study]! : []
  const runs = all.filter((run) => idOf(run).includes(values.only))
  const places: Places = { work: join(values.work, study), results: join(root, 'bench', study, 'results') }
  if (runs.length > 0 && command === 'run' && values.books !== undefined) {
    const abort = new AbortController()
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => abort.abort())
    const corpus = await prepareCorpus(values.books, join(values.work, 'corpus'), abort.signal)
    const prepare = async (run: StudyRun): Promise<void> => {
      for (const needed of neededBy(run)) {
        if (readResult(needed, places) === null) await finish(needed)
        else if (!(await hasModel(needed, places))) {
          await prepare(needed)
          await trainRun(needed, corpus, places, abort.signal)
        }
      }
      console.log(`${new Date().toISOString()} ${idOf(run)}`)
    }
    const finish = async (run: StudyRun): Promise<void> => {
      if (readResult(run, places) !== null) return
      await prepare(run)
      await finishRun(run, corpus, places, abort.signal)
    }
    for (const run of runs) {
      try {
        await finish(run)
      } catch (error) {
        if (abort.signal.aborted) throw error
        console.error(`${idOf(run)}: ${(error as Error).message}`) // the others do not depend on it, or say so themselves
        process.exitCode = 1
      }
    }
  } else if (runs.length > 0 && command === 'serve') {
    await serveRuns(runs, places, join(values.work, 'corpus'))
  } else if (runs.length > 0 && command === 'time') {
    await timeSteps(runs, places, join(values.work, 'corpus'))
  } else if (runs.length === 1 && command === 'knobs') {
    const file = join(places.results, `knobs.${idOf(runs[0]!)}.json`)
    await measureKnobs(checkpointOf(runs[0]!, places), join(values.work, 'corpus', tasksFile), file)
  } else if (runs.length > 0 && command === 'table') {
    console.log([...markdownTable(runs, places), '', ...kindsTable(runs, places)].join('\n'))
  } else {
    console.error(usage)
    process.exitCode = 2
  }
}

void main()
