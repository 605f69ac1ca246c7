// results.json in the folder of a run: what `mor report` draws of it beside its training (docs/report.md).
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

interface ReportResults {
  servedTokensPerSecond?: number
  heldOut?: { lossTopK?: number; lossThreshold: number; bitsPerByte: number }
}

/** Adds to what is there. @param folder that of the run */
export function addReportResults(folder: string, results: ReportResults): void {
  const file = join(folder, 'results.json')
  const before = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as ReportResults) : {}
  writeFileSync(file, `${JSON.stringify({ ...before, ...results }, null, 2)}\n`)
}
