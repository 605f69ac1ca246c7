// Where in a task an error belongs.
import { MorError, toMorError } from '../errors.js'

/**
 * What `work` gives. An error of it says the place first, unless it has nothing to do with it.
 * @param where file and line of an example, or of a document
 */
export async function atPlace<T>(where: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const known = toMorError(error)
    if (known.code === 'ABORTED' || known.code === 'DISPOSED') throw known
    throw new MorError(known.code, `${where}: ${known.message}`, { cause: error })
  }
}
