// The bench's side of the line protocol. A contender is a process of its own, so that its memory, threads and event loop
// can be measured and rounds of several contenders can take turns.
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

export class Contender {
  private constructor(
    /** How the process describes itself, e.g. a library and its version. */
    readonly description: string,
    private readonly child: ChildProcess,
    private readonly lines: AsyncIterator<string>,
  ) {}

  /** @param environment variables on top of this process's own. */
  static async start(
    command: string,
    arguments_: readonly string[],
    environment: Record<string, string> = {},
  ): Promise<Contender> {
    const child = spawn(command, arguments_, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...environment },
    })
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve)
      child.once('error', reject)
    })
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
    const { ready } = await nextAnswer<{ ready: string }>(lines, `${command} ${arguments_.join(' ')}`)
    return new Contender(ready, child, lines)
  }

  /** A TypeScript file of this folder's benches, under the same Node. */
  static startTypeScript(file: string): Promise<Contender> {
    return Contender.start(process.execPath, ['--import', 'tsx', file])
  }

  /** One request at a time. @throws {Error} what the contender says went wrong, or that it ended. */
  ask<Answer extends object>(command: string, request: object = {}): Promise<Answer> {
    this.child.stdin!.write(`${JSON.stringify({ command, ...request })}\n`)
    return nextAnswer<Answer>(this.lines, `${this.description}: ${command}`)
  }

  /** Ends its input and waits until it has exited, so that what comes next has the machine to itself. */
  async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const gone = new Promise((resolve) => this.child.once('exit', resolve))
    this.child.stdin!.end()
    await gone
  }
}

async function nextAnswer<Answer extends object>(lines: AsyncIterator<string>, what: string): Promise<Answer> {
  const { value, done } = await lines.next()
  if (done) throw new Error(`${what}: the process ended without an answer`)
  const answer = JSON.parse(value) as Answer & { error?: string }
  if (answer.error !== undefined) throw new Error(`${what}: ${answer.error}`)
  return answer
}
