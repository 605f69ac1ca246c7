// Runs one bench: `npm run bench -- train [--rounds N] [--save]`. Prints a table and, as the last line, one JSON
// object.
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'
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
  ops: { run: benchOps, rounds: 5 },
  products: { run: benchProducts, rounds: 5 },
}

async function main(): Promise<void> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { rounds: { type: 'string' }, save: { type: 'boolean', default: false }, device: { type: 'string' } },
  })
  const [name = ''] = positionals
  const bench = Object.hasOwn(benches, name) ? benches[name] : undefined
  const rounds = Number(values.rounds ?? bench?.rounds)
  const misplaced = values.device !== undefined && name !== 'ops'
  if (bench === undefined || positionals.length > 1 || !Number.isInteger(rounds) || rounds < 1 || misplaced) {
    const names = Object.keys(benches).join(' | ')
    console.error(
      `usage: npm run bench -- ${names} [--rounds N] [--save] [--device D]\n  --save    write the JSON to bench/results/<instruction set>/ too\n  --device  cpu or cuda:<n>, for ops`,
    )
    process.exitCode = 2
    return
  }
  const report = await bench.run(rounds, values.device ?? 'cpu')
  showProgress('')
  if (values.save) {
    const path = resultPath(name, values.device ?? 'cpu')
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, `${JSON.stringify(report.result, null, 2)}\n`)
  }
  console.log(report.toString())
}

void main()
