// Reads deploy/Dockerfile.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DockerfileParser } from 'dockerfile-ast'

export const text = readFileSync(join('deploy', 'Dockerfile'), 'utf8')

/** The arguments of every instruction of a kind, in order. */
export function argumentsOf(keyword: string): string[] {
  return DockerfileParser.parse(text)
    .getInstructions()
    .filter((instruction) => instruction.getKeyword() === keyword)
    .map((instruction) => instruction.getArgumentsContent() ?? '')
}

/** The words of the process that a container starts. Throws where a shell would start it. */
export function entrypoint(): string[] {
  return JSON.parse(argumentsOf('ENTRYPOINT').at(-1)!)
}

export function user(): string {
  return argumentsOf('USER').at(-1)!
}
