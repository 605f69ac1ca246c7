// A contender that may be missing or fail: that costs its own rows and no others.
import type { Contender } from './contender.js'

export class Rival {
  private contender: Contender | undefined
  private why = ''

  private constructor() {}

  /** Tries to start it. */
  static async start(start: () => Promise<Contender>): Promise<Rival> {
    const rival = new Rival()
    try {
      rival.contender = await start()
    } catch (error) {
      rival.lose(error)
    }
    return rival
  }

  /** Why it has no rows; undefined while it is there. */
  get lost(): string | undefined {
    return this.contender === undefined ? this.why : undefined
  }

  get description(): string {
    return this.contender?.description ?? ''
  }

  /** Its answer; undefined from its first failure on. */
  async ask<Answer extends object>(command: string, request: object): Promise<Answer | undefined> {
    try {
      return await this.contender?.ask<Answer>(command, request)
    } catch (error) {
      this.lose(error)
      return undefined
    }
  }

  async end(): Promise<void> {
    await this.contender?.end()
  }

  private lose(error: unknown): void {
    this.contender = undefined
    this.why = error instanceof Error ? error.message : String(error)
  }
}
