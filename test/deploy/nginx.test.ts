// Two replicas of `mor serve` behind nginx with deploy/nginx.conf: one drains, one is killed, and prompts that begin alike meet in
// one prefix cache.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Serving, startServe } from '../lib/cli/serve_process.js'
import { scrape } from '../lib/server/scrape.js'
import { post, saveTinyModel } from '../lib/server/tiny_model.js'
import { type NginxProxy, nginx, REPLICA, startProxy } from './nginx.js'

if (nginx === null) it.skip('there is no nginx: apt-get install --no-install-recommends nginx', () => {})

describe.skipIf(nginx === null)('replicas behind nginx', { timeout: 60_000 }, () => {
  let folder: string
  let remove: () => Promise<void>
  const replicas: Serving[] = []
  const proxies: NginxProxy[] = []

  beforeAll(async () => {
    ;({ folder, remove } = await saveTinyModel())
    const start = async () => {
      replicas.push(await startServe(folder, '--model-name', 'tiny', '--kv-cache-bytes', String(2 ** 25)))
    }
    await Promise.all([start(), start(), start()])
  }, 60_000)
  afterAll(async () => {
    for (const { child } of replicas) child.kill('SIGKILL')
    for (const proxy of proxies) await proxy.stop()
    await remove()
  })

  async function proxyOf(first: Serving, second: Serving, options: { takeTurns?: boolean } = {}): Promise<NginxProxy> {
    const proxy = await startProxy([first.url, second.url], options)
    proxies.push(proxy)
    return proxy
  }

  it('prompts that begin alike find more in the prefix cache where nginx sends them to one replica', async () => {
    const [first, second] = replicas as [Serving, Serving]
    const byStart = await askInTurn(await proxyOf(first, second), 'A')
    for (const served of byStart) expect(new Set(served).size).toBe(1)
    const hitsByStart = await hits([first, second])
    const inTurns = await askInTurn(await proxyOf(first, second, { takeTurns: true }), 'B')
    for (const served of inTurns) expect(new Set(served).size).toBe(2)
    const hitsInTurns = (await hits([first, second])) - hitsByStart
    // Of four requests that begin alike, all but the first find that beginning, or all but the first at each replica: 3 and 2.
    expect(hitsInTurns).toBeGreaterThan(0)
    expect(hitsByStart / hitsInTurns).toBeCloseTo(3 / 2, 1)
  })

  it('loses nothing where one of them drains', async () => {
    const [drained, other] = replicas as [Serving, Serving]
    const proxy = await proxyOf(drained, other, { takeTurns: true })
    const load = await startLoad(proxy.url)
    expect(load.streams.map(({ replica }) => replica)).toContain(host(drained))
    drained.child.kill('SIGTERM')
    expect(await drained.line()).toEqual({ type: 'draining' })
    expect(await drained.ended).toMatchObject({ code: 0, stderr: '' })
    const { short, long, streams } = await load.stop()
    expect(new Set([...short, ...long])).toEqual(new Set([200]))
    expect(new Set(streams.map(({ end }) => end))).toEqual(new Set(['whole']))
  })

  it('loses the streams of one that is killed, and nothing else', async () => {
    const [, killed, other] = replicas as [Serving, Serving, Serving]
    const proxy = await proxyOf(killed, other, { takeTurns: true })
    const load = await startLoad(proxy.url)
    killed.child.kill('SIGKILL')
    await killed.ended
    // The first of them at the latest finds out that nobody listens there; nginx then spares it for some seconds.
    const after: string[] = []
    for (let request = 0; request < 10; request++) {
      const answer = await post(proxy.url, { ...ask, max_tokens: 1 })
      expect(answer.status).toBe(200)
      after.push(answer.headers.get(REPLICA)!)
    }
    expect(after.filter((served) => served === host(other)).length).toBeGreaterThan(7)
    expect(after.every((served) => served.endsWith(host(other)))).toBe(true)
    expect(await proxy.log()).toMatch(`upstream server temporarily disabled`)

    const { short, long, streams } = await load.stop()
    expect(new Set([...short, ...long])).toEqual(new Set([200]))
    const broken = streams.filter(({ end }) => end !== 'whole')
    expect(new Set(broken.map(({ end }) => end))).toEqual(new Set(['broken off']))
    expect(new Set(broken.map(({ replica }) => replica))).toEqual(new Set([host(killed)]))
  })
})

const ask = { model: 'tiny', prompt: 'Once upon a time', max_tokens: 240, ignore_eos: true }

const host = ({ url }: Serving) => new URL(url).host

/** Tokens that the replicas have found in their prefix caches. */
async function hits(replicas: Serving[]): Promise<number> {
  const metrics = await Promise.all(replicas.map(({ url }) => scrape(url)))
  return metrics.reduce((sum, one) => sum + one['vllm:prefix_cache_hits_total']!, 0)
}

/** Asks four times about each of seven long texts, one request after the other; which replicas answered, for each text. */
async function askInTurn({ url }: NginxProxy, name: string): Promise<string[][]> {
  const texts = Array.from({ length: 7 }, (_, i) => `${name}${i}: ${'a long text, '.repeat(12)}`)
  const served = texts.map((): string[] => [])
  for (const question of ['who?', 'what?', 'when?', 'where?'])
    for (const [i, text] of texts.entries()) {
      const answer = await post(url, { ...ask, prompt: text + question, max_tokens: 2 })
      expect(answer.status).toBe(200)
      served[i]!.push(answer.headers.get(REPLICA)!)
    }
  return served
}

/** Choices of each stream. */
const CHOICES = 8

/**
 * Twelve streams and eight long completions, which are under way when this resolves, while four clients send short completions one after
 * another until it is stopped.
 */
async function startLoad(url: string) {
  let stopped = false
  const client = async () => {
    const statuses: number[] = []
    while (!stopped) statuses.push(await statusOf(post(url, { ...ask, max_tokens: 4 })))
    return statuses
  }
  const short = Promise.all(Array.from({ length: 4 }, client))
  const long = Promise.all(Array.from({ length: 8 }, () => statusOf(post(url, { ...ask, n: 4 }))))
  const streams = await Promise.all(
    Array.from({ length: 12 }, async () => {
      const answer = await post(url, { ...ask, n: CHOICES, stream: true })
      return { replica: answer.headers.get(REPLICA)!, end: endOf(answer) }
    }),
  )
  return {
    streams,
    /** Resolves when everything has ended: to the statuses of completions, 0 for one without a whole answer. */
    async stop() {
      stopped = true
      const ended = streams.map(async ({ replica, end }) => ({ replica, end: await end }))
      return { short: (await short).flat(), long: await long, streams: await Promise.all(ended) }
    },
  }
}

function statusOf(answer: Promise<Response>): Promise<number> {
  return answer
    .then(async (response) => {
      await response.json()
      return response.status
    })
    .catch(() => 0)
}

/** `cut short`: the client cannot tell from the connection that something is missing. */
async function endOf(stream: Response): Promise<'whole' | 'broken off' | 'cut short'> {
  const events = await stream.text().catch(() => null)
  if (events === null) return 'broken off'
  const ends = events.match(/"finish_reason":"length"/g)?.length
  return ends === CHOICES && events.endsWith('data: [DONE]\n\n') ? 'whole' : 'cut short'
}
