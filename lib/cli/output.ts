// Shows a command's progress: a line that is rewritten in place on a terminal, a JSON object per line elsewhere.

/** The stream that is written to: process.stdout, or a substitute in tests. */
export interface OutputStream {
  write(text: string): unknown
  isTTY?: boolean
  columns?: number
}

/** `text`: lines for people, without a line that is rewritten. */
export type OutputMode = 'terminal' | 'json' | 'text'

export class Output {
  readonly mode: OutputMode
  readonly #stream: OutputStream
  #status = ''

  /** @param elsewhere the mode if `stream` is not a terminal */
  constructor(stream: OutputStream, elsewhere: 'json' | 'text' = 'json') {
    this.#stream = stream
    this.mode = stream.isTTY ? 'terminal' : elsewhere
  }

  /** The same stream as JSON lines. Some launchers give their processes a terminal, wherever their own output goes. */
  asJson(): Output {
    return new Output({ write: (text) => this.#stream.write(text) })
  }

  /** Shows something temporary: rewrites the status line, or writes `record`. */
  progress(record: object, status: string): void {
    if (this.mode === 'json') this.#writeRecord(record)
    if (this.mode !== 'terminal') return
    // A terminal that does not know its width says 0.
    this.#status = status.slice(0, (this.#stream.columns || 80) - 1)
    this.#stream.write(`\r\u001b[2K${this.#status}`)
  }

  /** Shows something permanent: writes a line above the status line, or `record`. */
  event(record: object, line: string): void {
    if (this.mode === 'json') {
      this.#writeRecord(record)
      return
    }
    const clear = this.#status === '' ? '' : '\r\u001b[2K'
    this.#stream.write(`${clear}${line}\n${this.#status}`)
  }

  /** Erases the status line. */
  end(): void {
    if (this.#status !== '') this.#stream.write('\r\u001b[2K')
    this.#status = ''
  }

  #writeRecord(record: object): void {
    this.#stream.write(`${JSON.stringify(record)}\n`)
  }
}
