// Finds the files that the arguments of a command name: paths, patterns, and - for standard input.
import { isAbsolute } from 'node:path'
import { glob, isDynamicPattern } from 'tinyglobby'
import { MorError } from '../errors.js'
import { exists } from '../exists.js'
import { STANDARD_INPUT } from './file_kind.js'

/**
 * A pattern (`books/**\/*.jsonl.gz`) becomes its files in the order of their names; an argument that is the path of a file stays
 * what it is. Each file comes once. Throws `INVALID_ARGUMENT` for a pattern without a file.
 */
export async function findInputs(inputs: readonly string[]): Promise<string[]> {
  const files = new Set<string>()
  for (const input of inputs) {
    if (input === STANDARD_INPUT || (await exists(input)) || !isDynamicPattern(input)) {
      files.add(input)
      continue
    }
    const found = await glob(input, { absolute: isAbsolute(input), expandDirectories: false })
    if (found.length === 0) throw new MorError('INVALID_ARGUMENT', `no file has a name like ${input}`)
    for (const file of found.toSorted()) files.add(file)
  }
  return [...files]
}
