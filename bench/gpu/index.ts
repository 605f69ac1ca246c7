// Tests and measures the CUDA device on a machine with a GPU that has only the built files, Node and the driver: op tests,
// compute-sanitizer, parity with the CPU device, and benches. Writes everything to one JSON file.
//
//   node build/js/bench/gpu/index.js [--device cuda:0] [--rounds 5] [--output gpu.json] [--only tests,parity,…]
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { devices, presets } from '../../lib/index.js'
import type { Report } from '../lib/report.js'
import { benchOps } from '../ops/index.js'
import { benchDecoding, benchTraining, contextLength } from './models.js'
import { compare } from './parity.js'
import { deviceTests, findSanitizer, type Outcome, runSanitizer, runTests } from './programs.js'
import { benchPytorch, cublasFolder, hasPytorch } from './pytorch.js'

const parts = ['tests', 'sanitizer', 'parity', 'benches'] as const
const programs = join(process.cwd(), 'build', 'cuda')

function driver(): string | null {
  const file = '/proc/driver/nvidia/version'
  return existsSync(file) ? (/Kernel Module\D+([\d.]+)/.exec(readFileSync(file, 'utf8'))?.[1] ?? null) : null
}

/** @param keep is called with the results so far before rivals run, so that their failure loses none of our figures. */
async function benches(device: string, rounds: number, keep: (report: Report) => void): Promise<Report> {
  const loaderPath = [process.env.LD_LIBRARY_PATH, cublasFolder()].filter((folder) => folder)
  if (loaderPath.length > 0) process.env.LD_LIBRARY_PATH = loaderPath.join(':')
  const report = await benchOps(rounds, device, join(programs, 'bench', 'ops', 'bench_ops'))
  const { dense_peak, copy_bandwidth } = report.result.figures
  const seconds = await benchTraining(report, device, dense_peak!.median * 1e12, rounds)
  await benchDecoding(report, device, copy_bandwidth!.median * 1e9, rounds)
  keep(report)
  if (hasPytorch())
    await benchPytorch(report, { name: '360M', config: presets['360M'], length: contextLength, seconds }, rounds)
  else console.log('pytorch: no python3 with a PyTorch that sees the GPU was found')
  return report
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      device: { type: 'string', default: 'cuda:0' },
      rounds: { type: 'string', default: '5' },
      output: { type: 'string', default: 'gpu.json' },
      only: { type: 'string', default: parts.join(',') },
    },
  })
  const only = values.only.split(',')
  const unknown = only.find((part) => !(parts as readonly string[]).includes(part))
  const info = devices().find(({ id }) => id === values.device)
  if (unknown !== undefined || info?.usable !== true) {
    const why = devices().map(({ id, reason }) => `${id}: ${reason ?? 'usable'}`)
    console.error(unknown ? `no part "${unknown}" in ${parts.join(', ')}` : `no ${values.device}\n${why.join('\n')}`)
    process.exitCode = 2
    return
  }
  const commit = join(programs, 'commit')
  const result: Record<string, unknown> = {
    date: new Date().toISOString(),
    commit: existsSync(commit) ? readFileSync(commit, 'utf8').trim() : null,
    gpu: info.name,
    computeCapability: info.computeCapability,
    memoryBytes: info.memoryBytes,
    driver: driver(),
    node: process.version,
  }
  let failed = 0
  /** Writes after every part, so that results are kept if a later part ends the process. */
  const add = (part: string, value: unknown, failures: number): void => {
    result[part] = value
    failed += failures
    writeFileSync(values.output, `${JSON.stringify(result, null, 2)}\n`)
    console.log(`${part}: ${typeof value === 'string' ? value : failures === 0 ? 'ok' : `${failures} failed`}`)
  }
  const tests = join(programs, 'test')
  if (only.includes('tests')) {
    const outcome = runTests(tests, deviceTests(tests))
    add('tests', outcome, outcome.failed)
  }
  if (only.includes('sanitizer')) {
    const sanitizer = findSanitizer()
    const run = (tool: 'memcheck' | 'racecheck'): Outcome =>
      runSanitizer(
        sanitizer!,
        tool,
        tests,
        deviceTests(tests).filter((name) => name.startsWith('ops_')),
      )
    for (const tool of ['memcheck', 'racecheck'] as const) {
      const outcome = sanitizer === null ? null : run(tool)
      add(tool, outcome ?? 'compute-sanitizer was not found', outcome?.failed ?? 0)
    }
  }
  if (only.includes('parity')) {
    const found = await compare(values.device)
    add('parity', found, Object.values(found).filter(({ ok }) => !ok).length)
  }
  if (only.includes('benches')) {
    const keep = (report: Report): void => add('benches', report.result, 0)
    const report = await benches(values.device, Number(values.rounds), keep)
    keep(report)
    console.log(report.toString())
  }
  process.exitCode = failed === 0 ? 0 : 1
}

void main()
