// The part `decode`: tokens per second of one sequence and of many, and the share of the bandwidth of memory that reading
// the weights takes.
import { join } from 'node:path'
import { runCases } from '../lib/cases.js'
import { median } from '../lib/statistics.js'
import { copyRates, type Line } from '../ops/figures.js'
import { opCases } from '../ops/program.js'
import type { Part } from './part.js'
import { runWorker } from './work.js'
import type { DecodeFact, DecodeRequest } from './work_decode.js'

/** Seconds of one model: initialisation and rounds. */
const caseSeconds = 120

export async function decode(part: Part): Promise<void> {
  const { report, shapes } = part
  const copy = await measureCopy(part)
  for (const [name, config] of Object.entries(shapes.decode)) {
    const request: DecodeRequest = { name, config, sequences: shapes.decodedSequences, tokens: shapes.decodedTokens }
    const job = { work: 'decode', name: `decoding ${name}`, seconds: caseSeconds, request } as const
    const fact = (await runWorker(part, job))[name] as DecodeFact | undefined
    // With random weights the tokens of a router may run any number of recursions, so only vanilla reads a known number of bytes.
    if (fact !== undefined && copy !== undefined && !config.router)
      report.ratio(`decode_${name}_of_bandwidth`, (fact.tokensPerSecond * fact.parameterBytes) / copy)
  }
}

/** Bytes per second of a copy, read and written; undefined: it failed. */
export async function measureCopy({
  report,
  deadline,
  device,
  rounds,
  programs,
  shapes,
}: Part): Promise<number | undefined> {
  const lines: Line[] = []
  const config = Object.values(shapes.ops)[0]!
  const program = join(programs, 'bench', 'ops', 'bench_ops')
  const options = { device, samples: rounds }
  await runCases(
    opCases(program, 'copy', config, shapes.opRows, options, (line) => lines.push(line)),
    deadline,
    report,
  )
  const rates = copyRates(lines)
  if (rates.length === 0) return undefined
  report.figure(
    'copy_bandwidth',
    rates.map((rate) => rate / 1e9),
    'GB/s',
    'read and written',
  )
  return median(rates)
}
