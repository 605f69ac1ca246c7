// `mor serve` as a process whose memory can be watched.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { startServe } from '../lib/cli/serve_process.js'

export interface WatchedServer {
  url: string
  /** Resident memory in MB. */
  residentMegabytes(): Promise<number>
  /** Stops it; rejects if it does not exit cleanly. */
  stop(): Promise<void>
}

export async function startServer(folder: string, name: string): Promise<WatchedServer> {
  const { url, child, ended } = await startServe(folder, '--model-name', name)
  return {
    url,
    async residentMegabytes() {
      const { stdout } = await promisify(execFile)('ps', ['-o', 'rss=', '-p', String(child.pid)])
      return Number(stdout) / 1024
    },
    async stop() {
      child.kill('SIGTERM')
      const { code, stderr } = await ended
      if (code !== 0 || stderr !== '') throw new Error(`mor serve ended with ${code}: ${stderr}`)
    },
  }
}
