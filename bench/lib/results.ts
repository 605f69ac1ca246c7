// Where the result of a bench is kept: a folder for each class of processor, since figures of different classes say
// nothing about one another.
import { join } from 'node:path'
import { instructionSet } from './instruction_set.js'

/** @param device as `--device` names it. */
export function resultPath(bench: string, device: string, set = instructionSet()): string {
  const processors = device === 'cpu' ? set : 'cuda'
  return join(__dirname, '..', 'results', processors, `${bench}.json`)
}
