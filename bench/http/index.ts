// The HTTP bench: what chat over HTTP adds to the engine's time to first token, and how late the server's event loop is
// with many streams. Clients and server share the machine, so the clients' own work is part of what is added.
import { join } from 'node:path'
import { Contender } from '../lib/contender.js'
import { machine, threads } from '../lib/machine.js'
import { showProgress } from '../lib/progress.js'
import { Report } from '../lib/report.js'
import { median } from '../lib/statistics.js'
import { streamChats } from './client.js'
import type { Measured } from './worker.js'

const loads = [
  { name: 'chat_64', concurrency: 64, requests: 512, maxTokens: 32 },
  { name: 'streams_256', concurrency: 256, requests: 512, maxTokens: 64 },
]

export async function benchHttp(rounds: number): Promise<Report> {
  const report = new Report('http', machine())
  const server = await Contender.startTypeScript(join(__dirname, 'worker.ts'))
  const { url } = await server.ask<{ url: string }>('listen', { threads })
  await streamChats({ url, requests: 128, concurrency: 64, maxTokens: 8 })
  for (const { name, ...load } of loads) {
    const measured: Record<'engine' | 'added' | 'addedByServer' | 'delay', number>[] = []
    for (let round = 0; round < rounds; round++) {
      showProgress(`${name}: round ${round + 1} of ${rounds}`)
      await server.ask('begin')
      const clientFirstToken = await streamChats({ url, ...load })
      const { engineFirstToken, serverFirstToken, eventLoopDelay } = await server.ask<Measured>('finish')
      const seeds = [...clientFirstToken.keys()]
      const engineOf = (seed: number) => engineFirstToken[seed]!
      measured.push({
        engine: median(seeds.map(engineOf)),
        added: median(seeds.map((seed) => clientFirstToken.get(seed)! - engineOf(seed))),
        addedByServer: median(seeds.map((seed) => serverFirstToken[seed]! - engineOf(seed))),
        delay: eventLoopDelay,
      })
    }
    const figure = (what: string, key: keyof (typeof measured)[number], note: string) => {
      const values = measured.map((round) => round[key])
      report.figure(`${name}_${what}`, values, 'ms', note)
    }
    const chats = `${load.requests} chats, ${load.concurrency} at a time`
    figure('engine_first_token', 'engine', `p50 from submit to the first token; ${chats}`)
    figure('added', 'added', 'p50 of what HTTP adds to it for the same request, its client included')
    figure('added_by_server', 'addedByServer', 'likewise, from the arrival at the server to the writing of the text')
    figure('event_loop_delay_p99', 'delay', 'of the server')
  }
  await server.end()
  return report
}
