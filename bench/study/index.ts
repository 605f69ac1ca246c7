// Studies: training runs that take hours, stop and go on, and leave one committed result each.
// `npm run study -- --help` says what they can be asked for.
import { join } from 'node:path'
import { qualityRuns } from '../quality/manifest.js'
import { uptrainRuns } from '../uptrain/manifest.js'
import { type Arguments, readArguments, usageOf } from './arguments.js'
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

async function main(given: Arguments): Promise<void> {
  const { command, study, runs, books, work } = given
  const places: Places = { work: join(work, study), results: join(root, 'bench', study, 'results') }
  const corpusFolder = join(work, 'corpus')
  if (command === 'run') {
    const abort = new AbortController()
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => abort.abort())
    const corpus = await prepareCorpus(books, corpusFolder, abort.signal)
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
  } else if (command === 'serve') {
    await serveRuns(runs, places, corpusFolder)
  } else if (command === 'time') {
    await timeSteps(runs, places, corpusFolder)
  } else if (command === 'knobs') {
    const file = join(places.results, `knobs.${idOf(runs[0]!)}.json`)
    await measureKnobs(checkpointOf(runs[0]!, places), join(corpusFolder, tasksFile), file)
  } else {
    console.log([...markdownTable(runs, places), '', ...kindsTable(runs, places)].join('\n'))
  }
}

/** Null for help, and where there is nothing to do because the command line is wrong. */
function readCommandLine(): Arguments | null {
  try {
    const given = readArguments(process.argv.slice(2), studies)
    if (given === null) console.log(usageOf(studies))
    return given
  } catch (error) {
    console.error(`${(error as Error).message}\n${usageOf(studies)}`)
    process.exitCode = 2
    return null
  }
}

const given = readCommandLine()
if (given !== null) {
  main(given).catch((error: Error) => {
    console.error(error.message)
    process.exitCode = 1
  })
}
