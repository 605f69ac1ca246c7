// Collects the figures of a bench and prints them: a table for people, then one line of JSON for programs.
import { type Summary, summarize } from './statistics.js'

export interface Figure extends Summary {
  unit: string
}

/** The last line of every bench. */
export interface BenchResult {
  bench: string
  machine: string
  figures: Record<string, Figure>
  ratios: Record<string, number>
  /** Sentences on what is missing or limited; absent where nothing is. */
  remarks?: string[]
}

export class Report {
  readonly result: BenchResult
  /** Remarks on figures and ratios, by name. */
  private readonly notes: Record<string, string> = {}

  constructor(bench: string, machine: string) {
    this.result = { bench, machine, figures: {}, ratios: {} }
  }

  /** One value for each repeat. */
  figure(name: string, values: readonly number[], unit: string, note = ''): Summary {
    const summary = summarize(values)
    this.result.figures[name] = { ...summary, unit }
    this.notes[name] = note
    return summary
  }

  ratio(name: string, value: number, note = ''): void {
    if (!Number.isFinite(value)) throw new RangeError(`the ratio ${name} is ${value}`)
    this.result.ratios[name] = value
    this.notes[name] = note
  }

  /** A sentence on what could not be measured and how to mend it, or on how a rival was limited. */
  remark(sentence: string): void {
    this.result.remarks = [...(this.result.remarks ?? []), sentence]
  }

  toString(): string {
    return `${this.tables()}\n${JSON.stringify(this.result)}`
  }

  /** Without the line for programs. */
  tables(): string {
    const { bench, machine, figures, ratios, remarks = [] } = this.result
    const figureRows = Object.entries(figures).map(([name, { median, min, max, unit }]) => [
      name,
      round(median),
      round(min),
      round(max),
      unit,
      this.notes[name]!,
    ])
    const ratioRows = Object.entries(ratios).map(([name, value]) => [name, round(value), this.notes[name]!])
    return [
      `${bench} on ${machine}`,
      '',
      ...table(['figure', 'median', 'min', 'max', 'unit', ''], figureRows),
      '',
      ...table(['ratio', 'value', ''], ratioRows),
      '',
      ...remarks,
    ].join('\n')
  }
}

/** Four significant digits, without exponent. */
export function round(value: number): string {
  const digits = value === 0 ? 0 : Math.max(0, 3 - Math.floor(Math.log10(Math.abs(value))))
  return value.toFixed(Math.min(digits, 6))
}

/** Columns as wide as their widest cell; columns whose every cell is a number are aligned right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)))
  const numeric = head.map((_, column) => rows.length > 0 && rows.every((row) => /^-?[\d.]+$/.test(row[column]!)))
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => (numeric[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
      .join('  ')
      .trimEnd()
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)]
}
