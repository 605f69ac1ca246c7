// Starts processes with the variables that torchrun gives to its ranks.
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { Ended } from './cli/process.js'

/** A port of 127.0.0.1 at which nobody listens. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

/** @param args for Node */
export async function startTorchRanks(size: number, args: readonly string[]): Promise<Ended[]> {
  const port = await freePort()
  return Promise.all(
    Array.from({ length: size }, (_, rank) => {
      const own = { RANK: rank, LOCAL_RANK: rank, WORLD_SIZE: size, MASTER_ADDR: '127.0.0.1', MASTER_PORT: port }
      const env = {
        ...process.env,
        ...Object.fromEntries(Object.entries(own).map(([key, value]) => [key, `${value}`])),
      }
      return new Promise<Ended>((resolve) => {
        const child = execFile(process.execPath, [...args], { env, timeout: 100_000 }, (_error, stdout, stderr) =>
          resolve({ code: child.exitCode!, stdout, stderr }),
        )
      })
    }),
  )
}
