// PartReport: what one part of the run on a GPU found, kept in a file after every figure.
import { appendFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { CaseListener } from '../lib/cases.js'
import { Report } from '../lib/report.js'
import type { Summary } from '../lib/statistics.js'

export class PartReport extends Report implements CaseListener {
  /** Why cases have no figures, by name. */
  readonly failures: Record<string, string> = {}
  private readonly facts: Record<string, unknown>
  private passed = 0
  private finished = false
  private readonly begin = performance.now()

  /** Writes `<folder>/<part>.json` and `<part>.log`. @param facts about the machine; they come first in the file */
  constructor(
    readonly part: string,
    readonly folder: string,
    facts: Record<string, unknown>,
  ) {
    super(`gpu ${part}`, String(facts.device))
    this.facts = { ...facts }
    writeFileSync(join(folder, `${part}.log`), '')
    this.keep()
  }

  override figure(name: string, values: readonly number[], unit: string, note = ''): Summary {
    const summary = super.figure(name, values, unit, note)
    this.keep()
    return summary
  }

  override ratio(name: string, value: number, note = ''): void {
    super.ratio(name, value, note)
    this.keep()
  }

  override remark(sentence: string): void {
    super.remark(sentence)
    console.log(sentence)
    this.keep()
  }

  /** Something that is no figure. */
  fact(name: string, value: unknown): void {
    this.facts[name] = value
    this.keep()
  }

  pass(_name: string): void {
    this.passed++
    this.keep()
  }

  fail(name: string, why: string): void {
    const before = this.failures[name]
    this.failures[name] = (before === undefined ? why : `${before}\n${why}`).slice(0, 2000)
    console.log(`${this.part}: ${name} failed: ${why.split('\n')[0]}`)
    this.keep()
  }

  log(line: string): void {
    appendFileSync(join(this.folder, `${this.part}.log`), `${line}\n`)
  }

  /** The last call: a file without `finished` is of a part that was ended. */
  finish(): void {
    this.finished = true
    this.keep()
  }

  /** The file is whole at any moment, whatever ends this process. */
  private keep(): void {
    const { passed, failures, finished } = this
    const seconds = Number(((performance.now() - this.begin) / 1000).toFixed(1))
    const all = { ...this.facts, ...this.result, passed, failures, seconds, finished }
    const path = join(this.folder, `${this.part}.json`)
    writeFileSync(`${path}.partial`, `${JSON.stringify(all, null, 2)}\n`)
    renameSync(`${path}.partial`, path)
  }
}
