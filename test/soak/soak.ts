// Sends many random requests to one server, some of which are cut off or invalid, and counts how they end.
import { Agent } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { scrape } from '../lib/server/scrape.js'
import { type Ending, send } from './client.js'
import { knownRequests, type PlannedRequest, plan } from './plan.js'

export interface SoakOptions {
  url: string
  model: string
  requests: number
  /** How many clients send at the same time. */
  concurrency: number
  seed: number
  /** Called after each request with how many have ended. */
  onProgress?: (ended: number) => void
}

export interface SoakResult {
  seconds: number
  /** Requests by their end. */
  ends: Record<Ending['end'], number>
  /** Everything that went wrong. */
  failures: string[]
  /** The server's metrics after all requests have ended, summed over labels. */
  metrics: Record<string, number>
}

/** Time for the server to notice that the last clients are gone. */
const SETTLE_MS = 10_000

export async function soak({ url, model, requests, concurrency, seed, onProgress }: SoakOptions): Promise<SoakResult> {
  const agent = new Agent({ keepAlive: true })
  const known = new Map<unknown, string>()
  for (const request of knownRequests(model)) known.set(JSON.stringify(request.body), await ask(url, agent, request))

  const began = performance.now()
  const planned = plan(model, requests, seed)
  const failures: string[] = []
  const ends = { whole: 0, left: 0, refused: 0 }
  let ended = 0
  const worker = async () => {
    for (const request of planned) {
      await sleep(request.pauseMs)
      try {
        const ending = await send(url, agent, request)
        ends[ending.end]++
        const failure = judge(request, ending, known)
        if (failure !== null) failures.push(`${failure}: ${JSON.stringify(request)}`)
      } catch (error) {
        failures.push(`${error}: ${JSON.stringify(request)}`)
      }
      onProgress?.(++ended)
    }
  }
  await Promise.all(Array.from({ length: concurrency }, worker))
  const seconds = (performance.now() - began) / 1000
  const metrics = await settle(url)
  agent.destroy()
  return { seconds, ends, failures, metrics }
}

/** What is wrong with the end of a request, or null. */
function judge({ fate, body }: PlannedRequest, ending: Ending, known: Map<unknown, string>): string | null {
  if (fate === 'leave') return ending.end === 'refused' ? 'was refused' : null
  if (fate === 'wrong') return ending.end === 'refused' && ending.status < 500 ? null : 'was not refused'
  if (ending.end !== 'whole') return `ended with ${JSON.stringify(ending)}`
  if (fate === 'known' && known.get(JSON.stringify(body)) !== ending.texts[0]) return 'gave another text than alone'
  return null
}

async function ask(url: string, agent: Agent, known: Pick<PlannedRequest, 'route' | 'body'>): Promise<string> {
  const ending = await send(url, agent, { ...known, choices: 1, pauseMs: 0, fate: 'known', leaveMs: 0 })
  if (ending.end !== 'whole') throw new Error(`the first requests failed: ${JSON.stringify(ending)}`)
  return ending.texts[0]!
}

/** The metrics as soon as nothing runs or waits, or what they are after some seconds. */
async function settle(url: string): Promise<Record<string, number>> {
  for (const began = performance.now(); ; await sleep(50)) {
    const metrics = await scrape(url)
    const busy = metrics['vllm:num_requests_running']! + metrics['vllm:num_requests_waiting']!
    if (busy === 0 || performance.now() - began > SETTLE_MS) return metrics
  }
}
