// One line on a terminal that says what a bench is doing; nothing where standard error is no terminal.

/** The part of a terminal's stream that is used. */
export interface Terminal {
  isTTY?: boolean
  columns?: number
  write(text: string): unknown
}

const eraseLine = '\r\u001b[2K'

/** Replaces the line; an empty text leaves none, as before the report is printed. */
export function showProgress(text: string, terminal: Terminal = process.stderr): void {
  if (terminal.isTTY) terminal.write(eraseLine + text.slice(0, (terminal.columns ?? 80) - 1))
}
