// Reads results.json: what was measured of a run's model after training. The file is optional, and so is each of its fields.
import { Checker } from '../check.js'
import { readOptionalJsonFile } from '../json_file.js'

/** Null stands for what was not measured. */
export interface RunResults {
  /** Tokens per second that a server generates with the model. */
  servedTokensPerSecond: number | null
  /** On held-out text, nats per token. */
  lossTopK: number | null
  lossThreshold: number | null
  bitsPerByte: number | null
}

/** @throws {MorError} CHECKPOINT_INVALID for what is not JSON, and for a value that is no number */
export async function readResults(path: string): Promise<RunResults> {
  const content = await readOptionalJsonFile(path)
  const results = Checker.of(content ?? {}, path, 'CHECKPOINT_INVALID')
  const heldOut = results.has('heldOut')
    ? results.child('heldOut')
    : Checker.of({}, `${path}: heldOut`, 'CHECKPOINT_INVALID')
  return {
    servedTokensPerSecond: optionalNumber(results, 'servedTokensPerSecond', { above: 0 }),
    lossTopK: optionalNumber(heldOut, 'lossTopK', { min: 0 }),
    lossThreshold: optionalNumber(heldOut, 'lossThreshold', { min: 0 }),
    bitsPerByte: optionalNumber(heldOut, 'bitsPerByte', { min: 0 }),
  }
}

function optionalNumber(check: Checker, key: string, range: Parameters<Checker['number']>[1]): number | null {
  return check.has(key) ? check.number(key, range) : null
}
