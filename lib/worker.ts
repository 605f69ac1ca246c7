// Starts the threads of JavaScript, each from the file of its name.
import { extname, join } from 'node:path'
import { Worker, type WorkerOptions } from 'node:worker_threads'

/** @param file a module of lib without its ending, such as `tokenizer/encode_worker` */
export function startWorker(file: string, options: WorkerOptions): Worker {
  const path = join(__dirname, `${file}${extname(__filename)}`)
  if (path.endsWith('.js')) return new Worker(path, options)
  // The sources, which tests and benches run, are TypeScript.
  return new Worker(`require('tsx/cjs'); require(${JSON.stringify(path)})`, { ...options, eval: true })
}
