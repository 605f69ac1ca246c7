// How a failed command reports its error.
import picocolors from 'picocolors'
import { toMorError } from '../errors.js'

/** The exit code that shells report for a process ended by SIGINT. */
export const INTERRUPTED = 130

/** 1, or 130 if the user stopped the command. */
export function exitCodeOf(error: unknown): number {
  return toMorError(error).code === 'ABORTED' ? INTERRUPTED : 1
}

/** The text for standard error: the message, its code, and the stack only if asked for. */
export function describeFailure(error: unknown, verbose: boolean): string {
  // Only terminals get colour: elsewhere its codes would end up in log files.
  const pc = picocolors.createColors(process.stderr.isTTY === true && picocolors.isColorSupported)
  const failure = toMorError(error)
  const lines = [`${pc.red('error')} ${pc.dim(`[${failure.code}]`)} ${failure.message}`]
  if (verbose) lines.push(String((failure.cause instanceof Error ? failure.cause : failure).stack))
  else if (failure.code === 'INTERNAL')
    lines.push(pc.dim('This is a defect of the program: --verbose shows where it happened.'))
  return `${lines.join('\n')}\n`
}
