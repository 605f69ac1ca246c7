// Runs one bench: `npm run bench -- train [--rounds N] [--save]`. Prints a table and, as the last line, one JSON
// object.
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'
import { benchEvaluate } from './evaluate/index.js'
import { benchGenerate } from './generate/index.js'
import { benchHttp } from './http/index.js'
import { showProgress } from './lib/progress.js'
import type { Report } from './lib/report.js'
import { resultPath } from './lib/results.js'
import { benchOps } from './ops/index.js'
import { benchProducts } from './products/index.js'
import { benchSampling } from './sampling/index.js'
import { benchServe } from './serve/index.js'
import { benchTrain } from './train/index.js'

/** The benches, each with as many rounds as take about ten minutes. */
const benches: Record<string, { run: (rounds: number, device: string) => Promise<Report>; rounds: number }> = {
  train: { run: benchTrain, rounds: 5 },
  generate: { run: benchGenerate, rounds: 5 },
  sampling: { run: benchSampling, rounds: 5 },
  serve: { run: benchServe, rounds: 2 },
  http: { run: benchHttp, rounds: 5 },
  evaluate: { run: benchEvaluate, rounds: 3 },
  ops: { run: benchOps, rounds: 5 },
  products: { run: benchProducts, rounds: 5 },
}

async function main(): Promise<void> {
  const given = parse(process.argv.slice(2))
  if (given === null) {
    const names = Object.keys(benches).join(' | ')
    console.error(
      `usage: npm run bench -- ${names} [--rounds N] [--save] [--device D]\n  --save    write the JSON to bench/results/<instruction set>/ too\n  --device  cpu or cuda:<n>, for ops`,
    )
    process.exitCode = 2
    return
  }
  const { name, bench, rounds, device, save } = given
  const report = await bench.run(rounds, device)
  showProgress('')
  if (save) {
    const path = resultPath(name, device)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, `${JSON.stringify(report.result, null, 2)}\n`)
  }
  console.log(report.toString())
}

/** What the command line asks for; null where it asks for nothing that there is. */
function parse(args: string[]) {
  try {
    const { positionals, values } = parseArgs({
      args,
      allowPositionals: true,
      options: { rounds: { type: 'string' }, save: { type: 'boolean', default: false }, device: { type: 'string' } },
    })
    const [name = ''] = positionals
    const bench = Object.hasOwn(benches, name) ? benches[name] : undefined
    const rounds = Number(values.rounds ?? bench?.rounds)
    const misplaced = values.device !== undefined && name !== 'ops'
    if (bench === undefined || positionals.length > 1 || !Number.isInteger(rounds) || rounds < 1 || misplaced)
      return null
    return { name, bench, rounds, device: values.device ?? 'cpu', save: values.save }
  } catch {
    return null // an option that there is not
  }
}

void main()
