// How a command shows its progress: a line that renews itself on a terminal, a JSON object per line anywhere else.
// Must not know: which command it is.

/** What is written to: process.stdout, or a stand-in. */
export interface OutputStream {
  write(text: string): unknown
  isTTY?: boolean
  columns?: number
}

/** `text`: lines for people without a line that renews itself. */
export type OutputMode = 'terminal' | 'json' | 'text'

export class Output {
  readonly mode: OutputMode
  readonly #stream: OutputStream
  #status = ''

  /** @param elsewhere the mode where `stream` is no terminal */
  constructor(stream: OutputStream, elsewhere: 'json' | 'text' = 'json') {
    this.#stream = stream
    this.mode = stream.isTTY ? 'terminal' : elsewhere
  }

  /** Something passing: renews the status line, or writes `record`. */
  progress(record: object, status: string): void {
    if (this.mode === 'json') this.#writeRecord(record)
    if (this.mode !== 'terminal') return
    this.#status = status.slice(0, (this.#stream.columns ?? 80) - 1)
    this.#stream.write(`\r\u001b[2K${this.#status}`)
  }

  /** Something that stays: a line above the status line, or `record`. */
  event(record: object, line: string): void {
    if (this.mode === 'json') {
      this.#writeRecord(record)
      return
    }
    const clear = this.#status === '' ? '' : '\r\u001b[2K'
    this.#stream.write(`${clear}${line}\n${this.#status}`)
  }

  /** Takes the status line away. */
  end(): void {
    if (this.#status !== '') this.#stream.write('\r\u001b[2K')
    this.#status = ''
  }

  #writeRecord(record: object): void {
    this.#stream.write(`${JSON.stringify(record)}\n`)
  }
}
