// Runs the cases of a program, each of which may fail, hang or end the process: this costs the case itself and no other.
import { runLines } from './process_lines.js'

/** What a line of a program says about its cases. */
export type CaseLine =
  | { begin: string }
  /** error: why the case failed; empty: the lines since its beginning say why. lost: no later case can succeed in this process. */
  | { end: string; error?: string; lost?: boolean }

export interface CaseProgram {
  /** In messages. */
  name: string
  /** The command that runs the cases that are not `done`, in the same order each time; null where none is left. */
  words(done: readonly string[]): readonly string[] | null
  environment?: Record<string, string>
  /** The most that a case may take, the start of the program included. */
  seconds: number
  /** undefined: the line says nothing about cases. */
  read(line: string): CaseLine | undefined
}

/** What becomes of the cases. */
export interface CaseListener {
  pass(name: string): void
  fail(name: string, why: string): void
  /** Every line of the output. */
  log(line: string): void
}

/** A point in time after which nothing begins and what runs is ended. */
export class Deadline {
  private readonly end: number
  constructor(readonly seconds: number) {
    this.end = performance.now() + 1000 * seconds
  }
  /** Seconds; 0: it is over. Less than one is not worth a beginning. */
  left(): number {
    const left = (this.end - performance.now()) / 1000
    return left < 1 ? 0 : left
  }
}

/** Reads lines that are JSON objects: some say things about cases, and `take` gets the others. */
export function jsonLines<Line extends object>(take: (line: Line) => void): CaseProgram['read'] {
  return (text) => {
    if (!text.startsWith('{')) return
    const line = JSON.parse(text) as Line | CaseLine
    if ('begin' in line || 'end' in line) return line as CaseLine
    take(line)
    return
  }
}

/** How many lines for people explain a failure. */
const explained = 12

export async function runCases(program: CaseProgram, deadline: Deadline, listener: CaseListener): Promise<void> {
  const done: string[] = []
  for (;;) {
    const words = program.words(done)
    if (words === null) return
    if (deadline.left() === 0) return listener.fail(program.name, notRun(done, deadline))
    const before = done.length
    let running: string | undefined
    let failed = false
    let lost = false
    let said: string[] = []
    const read = (line: string): CaseLine | undefined => {
      try {
        return program.read(line)
      } catch (error) {
        // A line that was cut off, or a figure that is none.
        listener.fail(running ?? program.name, `${error instanceof Error ? error.message : error}: ${line}`)
        return undefined
      }
    }
    const ending = await runLines(words, {
      seconds: deadline.left(),
      silence: program.seconds,
      environment: program.environment,
      onLine(line, isError) {
        listener.log(line)
        const found = isError ? undefined : read(line)
        if (found === undefined) {
          if (line.trim() !== '' && !line.startsWith('{')) said = [...said, line].slice(-explained)
          return undefined
        }
        if ('begin' in found) {
          running = found.begin
          said = []
          return undefined
        }
        if (found.end !== running) return undefined // a summary names it again
        running = undefined
        done.push(found.end)
        if (found.error === undefined) listener.pass(found.end)
        else {
          failed = true
          listener.fail(found.end, found.error || said.join('\n'))
        }
        lost = found.lost === true
        return lost ? 'end' : undefined
      },
    })
    if (ending.ok) return
    const why = [ending.why, ...said].join('\n')
    if (running !== undefined) {
      done.push(running)
      listener.fail(running, why)
    } else if (!failed || (ending.killed && !lost)) listener.fail(program.name, why)
    if (done.length === before) return // it does not come to its next case
  }
}

function notRun(done: readonly string[], { seconds }: Deadline): string {
  const after = done.length === 0 ? 'no case began' : `the cases after ${done.at(-1)} were not run`
  return `the ${seconds} s of this part were over: ${after}`
}
