// Runs one bench: `npm run bench -- train [--rounds 5] [--save]`. Prints a table and, as the last line, one JSON object.
// Must not know what a bench measures.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { benchGenerate } from './generate/index.js'
import type { Report } from './lib/report.js'
import { benchTrain } from './train/index.js'

const benches: Record<string, (rounds: number) => Promise<Report>> = { train: benchTrain, generate: benchGenerate }

async function main(): Promise<void> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { rounds: { type: 'string', default: '5' }, save: { type: 'boolean', default: false } },
  })
  const [name = ''] = positionals
  const bench = Object.hasOwn(benches, name) ? benches[name] : undefined
  const rounds = Number(values.rounds)
  if (bench === undefined || positionals.length > 1 || !Number.isInteger(rounds) || rounds < 1) {
    const names = Object.keys(benches).join(' | ')
    console.error(
      `usage: npm run bench -- ${names} [--rounds N] [--save]\n  --save  write the JSON to bench/results/ too`,
    )
    process.exitCode = 2
    return
  }
  const report = await bench(rounds)
  if (values.save) {
    const results = join(__dirname, 'results')
    mkdirSync(results, { recursive: true })
    writeFileSync(join(results, `${name}.json`), `${JSON.stringify(report.result, null, 2)}\n`)
  }
  console.log(report.toString())
}

void main()
