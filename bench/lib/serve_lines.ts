// The contender's side of the line protocol: each line of standard input is a JSON request, each line of standard output a
// JSON answer.
import { createInterface } from 'node:readline'

// biome-ignore lint/suspicious/noExplicitAny: a request is whatever JSON the harness of the same bench wrote
export type Command = (request: any) => Promise<object> | object

/** Serves until standard input ends; a command that throws is answered with its error and ends the process. */
export async function serveLines(ready: string, commands: Record<string, Command>): Promise<void> {
  const answer = (value: object): boolean => process.stdout.write(`${JSON.stringify(value)}\n`)
  answer({ ready })
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line) as { command: string }
    const command = commands[request.command]
    try {
      if (command === undefined) throw new RangeError(`unknown command ${request.command}`)
      answer(await command(request))
    } catch (error) {
      answer({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
      process.exitCode = 1
      return
    }
  }
}
