// The bench's side of the line protocol. A contender is a process of its own, so that its memory, threads and event loop
// can be measured and rounds of several contenders can take turns.
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

/** Seconds after which a contender counts as hanging unless the caller knows better. */
const patience = 900

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
    child.stdin!.on('error', () => {}) // a process that has ended is found when its answer is missing
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
    const unknown = new Contender(`${command} ${arguments_.join(' ')}`, child, lines)
    const { ready } = await unknown.nextAnswer<{ ready: string }>('start', patience)
    return new Contender(ready, child, lines)
  }

  /** A TypeScript file of this folder's benches, under the same Node. */
  static startTypeScript(file: string): Promise<Contender> {
    return Contender.start(process.execPath, ['--import', 'tsx', file])
  }

  /**
   * One request at a time. A contender that fails, or gives no answer within `seconds`, is ended: it can be asked no more.
   * @throws {Error} what the contender says went wrong, that it ended, or that it took too long.
   */
  ask<Answer extends object>(command: string, request: object = {}, seconds = patience): Promise<Answer> {
    this.child.stdin!.write(`${JSON.stringify({ command, ...request })}\n`)
    return this.nextAnswer<Answer>(command, seconds)
  }

  /** Ends its input and waits until it has exited, so that what comes next has the machine to itself. */
  async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const gone = new Promise((resolve) => this.child.once('exit', resolve))
    this.child.stdin!.end()
    await gone
  }

  /** Ends it by its process id, whatever it is doing, and waits until it is gone. */
  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const gone = new Promise((resolve) => this.child.once('exit', resolve))
    this.child.kill('SIGKILL')
    await gone
  }

  private async nextAnswer<Answer extends object>(command: string, seconds: number): Promise<Answer> {
    const what = `${this.description}: ${command}`
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${what}: no answer within ${seconds} s`)), 1000 * seconds)
    })
    try {
      const { value, done } = await Promise.race([this.lines.next(), late])
      if (done) throw new Error(`${what}: the process ended without an answer`)
      const answer = JSON.parse(value) as Answer & { error?: string }
      if (answer.error !== undefined) throw new Error(`${what}: ${answer.error}`)
      return answer
    } catch (error) {
      await this.kill()
      throw error
    } finally {
      clearTimeout(timer)
    }
  }
}
