// Tests and measures the CUDA device on a machine with a GPU that has only the built files, Node and the driver. Each part has
// a limit of time and writes a file of its own, after every figure; whatever fails costs itself alone.
//
//   node build/js/bench/gpu/index.js [--only probe,test,…] [--device cuda:0] [--rounds 5] [--folder gpu-results]
//
// --device cpu is a dry run of the same parts at small sizes; --programs names the folder where CMake built their programs.
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { devices } from '../../lib/index.js'
import { Deadline } from '../lib/cases.js'
import { withClocks } from './clocks.js'
import { decode } from './decode.js'
import { ops } from './ops.js'
import type { Part } from './part.js'
import { PartReport } from './part_report.js'
import { probe } from './probe.js'
import { pytorch } from './pytorch.js'
import { sanitize } from './sanitize.js'
import { serve } from './serve.js'
import { shapesFor } from './shapes.js'
import { test } from './tests.js'
import { train } from './train.js'
import { tune } from './tune.js'

/** The parts in the order in which they run, with the seconds that each may take (docs/cuda.md plans with them). */
const parts = {
  probe: { run: probe, seconds: 90 },
  test: { run: test, seconds: 420 },
  ops: { run: ops, seconds: 480 },
  train: { run: train, seconds: 270 },
  decode: { run: decode, seconds: 210 },
  serve: { run: serve, seconds: 240 },
  tune: { run: tune, seconds: 480 },
  pytorch: { run: pytorch, seconds: 300 },
  sanitize: { run: sanitize, seconds: 480 },
} satisfies Record<string, { run: (part: Part) => Promise<void>; seconds: number }>

type PartName = keyof typeof parts
const partNames = Object.keys(parts) as PartName[]

function options(args: string[]) {
  const text = (fallback: string) => ({ type: 'string', default: fallback }) as const
  const { values } = parseArgs({
    args,
    options: {
      only: text(partNames.join(',')),
      device: text('cuda:0'),
      rounds: text('5'),
      folder: text('gpu-results'),
      programs: text(join('build', 'cuda')),
    },
  })
  const only = values.only.split(',')
  const unknown = only.find((name) => !(partNames as string[]).includes(name))
  if (unknown !== undefined) throw new RangeError(`there is no part "${unknown}"; there are ${partNames.join(', ')}`)
  const rounds = Number(values.rounds)
  if (!Number.isInteger(rounds) || rounds < 1) throw new RangeError(`--rounds must be at least 1, not ${values.rounds}`)
  const device = devices().find(({ id }) => id === values.device)
  if (device?.usable !== true) {
    const why = devices().map(({ id, reason }) => `${id}: ${reason ?? 'usable'}`)
    throw new RangeError([`the device ${values.device} cannot be used`, ...why].join('\n'))
  }
  return { ...values, names: partNames.filter((name) => only.includes(name)), rounds, device }
}

async function main(): Promise<void> {
  const { names, device, rounds, folder, programs } = options(process.argv.slice(2))
  mkdirSync(folder, { recursive: true })
  const commit = join(programs, 'commit')
  for (const name of names) {
    const { run, seconds } = parts[name]
    const report = new PartReport(name, folder, {
      part: name,
      date: new Date().toISOString(),
      commit: existsSync(commit) ? readFileSync(commit, 'utf8').trim() : null,
      device: device.name,
      memoryBytes: device.memoryBytes,
      node: process.version,
    })
    console.log(`${name}: up to ${seconds} s`)
    const part = {
      report,
      device: device.id,
      shapes: shapesFor(device.id),
      rounds,
      programs,
      folder,
      deadline: new Deadline(seconds),
    }
    const unwatched = await withClocks(join(folder, `${name}.clocks.csv`), seconds, async () => {
      await run(part).catch((error: unknown) =>
        report.fail(name, error instanceof Error ? (error.stack ?? error.message) : String(error)),
      )
    })
    if (unwatched !== undefined) report.remark(unwatched)
    report.finish()
    console.log(report.tables())
    if (Object.keys(report.failures).length > 0) process.exitCode = 1
  }
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1)) // ends what it started
main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error)
  process.exit(2)
})
