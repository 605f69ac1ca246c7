// How a failed command says so.
// Must not know: the commands.
import picocolors from 'picocolors'
import { toMorError } from '../errors.js'

/** As a shell reports a process ended by SIGINT. */
export const INTERRUPTED = 130

/** 1, or 130 where the user stopped the command. */
export function exitCodeOf(error: unknown): number {
  return toMorError(error).code === 'ABORTED' ? INTERRUPTED : 1
}

/** The text for the error stream: the message for people, its code, and the stack only where asked for. */
export function describeFailure(error: unknown, verbose: boolean): string {
  // Colour is for a terminal; a build server that shows it too would find it in its log files.
  const pc = picocolors.createColors(process.stderr.isTTY === true && picocolors.isColorSupported)
  const failure = toMorError(error)
  const lines = [`${pc.red('error')} ${pc.dim(`[${failure.code}]`)} ${failure.message}`]
  if (verbose) lines.push(String((failure.cause instanceof Error ? failure.cause : failure).stack))
  else if (failure.code === 'INTERNAL')
    lines.push(pc.dim('This is a defect of the program: --verbose shows where it happened.'))
  return `${lines.join('\n')}\n`
}
