#!/usr/bin/env node
// The `mor` command: runs the command line and turns a failure into a message and exit code 1.
import { describeFailure, exitCodeOf } from './failure.js'
import { makeProgram } from './program.js'

const program = makeProgram()

// Nobody reads the output any more, as in `mor train … | head`. A server goes on: its clients still wait for answers.
const servers = new Set(['serve', 'view'])
let serving = false
program.hook('preAction', (_program, command) => {
  serving = servers.has(command.name())
})
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  if (!serving) process.exit()
})

program.parseAsync().catch((error: unknown) => {
  process.stderr.write(describeFailure(error, program.opts().verbose === true))
  process.exitCode = exitCodeOf(error)
})
