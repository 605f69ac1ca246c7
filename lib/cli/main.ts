#!/usr/bin/env node
// The `mor` command: runs the command line and turns a failure into a message and an exit code.
import { setImmediate as nextTurn } from 'node:timers/promises'
import { CommanderError } from 'commander'
import { MorError } from '../errors.js'
import { describeFailure, exitCodeOf } from './failure.js'
import { makeProgram } from './program.js'
import { OUTPUT_CLOSED, outputFailure, watchStreams } from './standard_streams.js'

const program = makeProgram()

async function main(): Promise<void> {
  try {
    await program.parseAsync()
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    // Commander has written what was wrong, or the help or version that was asked for.
    if (error.exitCode !== 0) {
      process.exitCode = error.exitCode
      return
    }
  }
  await nextTurn() // By then standard output has reported what it could not write.
  const failure = outputFailure()
  // A command that does not need its output has set the code 0.
  if (failure === null || process.exitCode === 0) return
  if (failure.exitCode !== OUTPUT_CLOSED) throw new MorError('IO_ERROR', failure.message, { cause: failure })
  process.exitCode = OUTPUT_CLOSED
}

watchStreams()
main().catch((error: unknown) => {
  process.stderr.write(describeFailure(error, program.opts().verbose === true))
  process.exitCode = exitCodeOf(error)
})
