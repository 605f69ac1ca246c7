// How a command that fails or is stopped reports it: the message and the exit code.
import picocolors from 'picocolors'
import { toMorError } from '../errors.js'

/** The exit code that shells report for a process ended by SIGINT. */
const INTERRUPTED = 130

/** Why a command stops before its end: the reason of its signal, and the cause of the error that follows from it. */
export class Interruption extends Error {
  override readonly name = 'Interruption'

  constructor(
    message: string,
    readonly exitCode: number,
  ) {
    super(message)
  }
}

/** 1, or that of the interruption; 130 for what was aborted in another way. */
export function exitCodeOf(error: unknown): number {
  const interruption = interruptionOf(error)
  if (interruption !== null) return interruption.exitCode
  return toMorError(error).code === 'ABORTED' ? INTERRUPTED : 1
}

/** The Interruption that led to the error, however often it was wrapped: Node.js makes an AbortError of a signal's reason. */
function interruptionOf(error: unknown): Interruption | null {
  for (let at = error; at instanceof Error; at = at.cause) if (at instanceof Interruption) return at
  return null
}

/** The text for standard error: the message, its code, and the stack only if asked for. */
export function describeFailure(error: unknown, verbose: boolean): string {
  // Only terminals get colour: elsewhere its codes would end up in log files.
  const pc = picocolors.createColors(process.stderr.isTTY === true && picocolors.isColorSupported)
  const failure = toMorError(error)
  const interruption = interruptionOf(failure)
  const why = failure.code === 'ABORTED' && interruption !== null ? `: ${interruption.message}` : ''
  const lines = [`${pc.red('error')} ${pc.dim(`[${failure.code}]`)} ${failure.message}${why}`]
  if (verbose) lines.push(String((failure.cause instanceof Error ? failure.cause : failure).stack))
  else if (failure.code === 'INTERNAL')
    lines.push(pc.dim('This is a defect of the program: --verbose shows where it happened.'))
  return `${lines.join('\n')}\n`
}
