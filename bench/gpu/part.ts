// What every part of the run on a GPU gets.
import type { Deadline } from '../lib/cases.js'
import type { PartReport } from './part_report.js'
import type { Shapes } from './shapes.js'

export interface Part {
  report: PartReport
  /** When the part must have ended. */
  deadline: Deadline
  /** `cuda:<n>`; `cpu` for a dry run. */
  device: string
  shapes: Shapes
  rounds: number
  /** The folder in which CMake built the programs. */
  programs: string
  /** The folder of the results of all parts. */
  folder: string
}
