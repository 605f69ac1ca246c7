// Programs whose cases print what they find as JSON, one object a line.
import { type CaseProgram, jsonLines } from '../lib/cases.js'
import type { PartReport } from './part_report.js'

export type Finding =
  | { figure: string; values: number[]; unit: string; note?: string }
  | { fact: string; value: unknown }
  | { failure: string; why: string }

/** What every request to a worker says. */
export interface Common {
  /** As messages name it. */
  case: string
  device: string
  rounds: number
}

/** Takes what a worker finds. */
export type Find = (found: Finding) => void

/** Facts by name. */
export type Facts = Record<string, unknown>

/** Findings go into the report as they come; @param facts gets those that are facts as well. */
export function findingProgram(report: PartReport, program: Omit<CaseProgram, 'read'>, facts: Facts = {}): CaseProgram {
  const take = (found: Finding): void => {
    if ('figure' in found) report.figure(found.figure, found.values, found.unit, found.note)
    else if ('failure' in found) report.fail(found.failure, found.why)
    else {
      facts[found.fact] = found.value
      report.fact(found.fact, found.value)
    }
  }
  return { ...program, read: jsonLines(take) }
}
