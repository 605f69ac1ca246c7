// `mor serve` as a process of its own, on a free port of this machine unless told otherwise.
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { type Ended, morProcess } from './process.js'

export interface Serving {
  url: string
  child: ChildProcess
  ended: Promise<Ended>
  /** The next JSON line. */
  line(): Promise<{ type: string }>
}

/** Resolves when it listens; rejects with its standard error if it exits instead. */
export async function startServe(folder: string, ...args: string[]): Promise<Serving> {
  let child!: ChildProcess
  const common = ['--model', folder, '--port', '0', '--dtype', 'float32', '--device', 'cpu', '--threads', '1']
  const ended = morProcess(['serve', ...common, ...args], (started) => {
    child = started
  })
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
  const line = async () => JSON.parse((await lines.next()).value as string)
  const failed = ended.then(({ stderr }) => Promise.reject(new Error(stderr)))
  const { url } = await Promise.race([line(), failed])
  failed.catch(() => {}) // the caller checks how it exits later
  return { url, child, ended, line }
}
