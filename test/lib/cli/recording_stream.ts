// A stand-in for process.stdout that keeps what was written.
import type { OutputStream } from '../../../lib/cli/output.js'

export class RecordingStream implements OutputStream {
  text = ''

  constructor(
    readonly isTTY: boolean,
    readonly columns?: number,
  ) {}

  write(text: string): void {
    this.text += text
  }

  /** What was written, as JSON lines. */
  get records(): Record<string, unknown>[] {
    return this.text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line))
  }
}
