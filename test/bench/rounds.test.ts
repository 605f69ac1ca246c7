// Tests of how the training bench chooses batches and alternates between contenders, which here answer from a formula.
import { expect, test } from 'vitest'
import type { Contender } from '../../bench/lib/contender.js'
import { chooseBatches, choosePrecision, fastest, runRounds } from '../../bench/train/rounds.js'

interface Request {
  name: string
  precision?: string
  batch: number
  length: number
  steps: number
}

/** A contender whose step takes what `seconds` says; the first step of every request is ten times slower. */
function fake(seconds: (request: Request) => number, log: string[] = []): Contender {
  return {
    description: 'fake',
    kill: async () => {
      log.push('kill')
    },
    ask: async (command: string, request: Request) => {
      if (command === 'build') {
        log.push(`build ${request.name} ${request.precision}`)
        return {}
      }
      log.push(`step ${request.name} ${request.batch}`)
      const time = seconds(request)
      return { seconds: [10 * time, ...Array(request.steps - 1).fill(time)], loss: 1, flops: 1, eventLoopDelay: 0 }
    },
  } as unknown as Contender
}

test('choosePrecision drops the slow one and decides between the close ones at batch 4', async () => {
  const log: string[] = []
  const perToken: Record<string, number> = { float32: 20, bfloat16: 1.2, autocast: 1 }
  const seconds = ({ name, batch }: Request) => batch * perToken[name]! * (name === 'bfloat16' && batch === 4 ? 0.5 : 1)
  const { best, rates } = await choosePrecision(async () => fake(seconds, log))
  expect(best).toBe('bfloat16')
  expect(rates.get('float32')).toEqual({ batch: 1, tokensPerSecond: [512 / 20] })
  expect(rates.get('autocast')).toEqual({ batch: 4, tokensPerSecond: [512, 512, 512] })
  expect(log).not.toContain('step float32 4')
  expect(log.slice(-2)).toEqual(['build vanilla bfloat16', 'build mor bfloat16'])
})

test('choosePrecision ends the process of a precision that hangs or fails, and goes on without it', async () => {
  const log: string[] = []
  const fails = async (request: Request, limit: number): Promise<never> => {
    throw new Error(request.name === 'bfloat16' ? `no answer within ${limit} s` : 'no kernel')
  }
  const start = async () => {
    log.push('start')
    const contender = fake(({ batch }) => batch, log)
    const ask = contender.ask as (command: string, request: Request, limit: number) => Promise<object>
    const hopeless = (command: string, name: string) => command === 'step' && ['bfloat16', 'autocast'].includes(name)
    const mended = (command: string, request: Request, limit: number) =>
      hopeless(command, request.name) ? fails(request, limit) : ask(command, request, limit)
    return Object.assign(contender, { ask: mended })
  }
  const { best, rates, dropped } = await choosePrecision(start)
  expect(best).toBe('float32')
  expect([...rates.keys()]).toEqual(['float32'])
  expect(log.filter((line) => line === 'start' || line === 'kill')).toEqual(['start', 'kill', 'start', 'kill', 'start'])
  expect(log.slice(-2)).toEqual(['build vanilla float32', 'build mor float32'])
  // 10 + 1 + 1 seconds of float32 would allow the next one 53; no precision gets more than the first one.
  expect(dropped).toEqual(
    new Map([
      ['bfloat16', 'no answer within 30 s'],
      ['autocast', 'no kernel'],
    ]),
  )
})

test('choosePrecision says why where no precision is left', async () => {
  const contender = Object.assign(
    fake(() => 1),
    { ask: () => Promise.reject(new Error('no BLAS')) },
  )
  await expect(choosePrecision(async () => contender, ['float32'])).rejects.toThrow('float32: no BLAS')
  await expect(choosePrecision(async () => contender, [])).rejects.toThrow('no precision is left')
})

test('chooseBatches tries no batch whose step would take longer than six seconds', async () => {
  expect(await chooseBatches(fake(({ batch }) => 1.5 * batch))).toEqual([1, 2, 4])
  expect(await chooseBatches(fake(({ batch }) => 20 * batch))).toEqual([1])
})

test('a rival that fails in the middle loses its series, and ours are whole', async () => {
  let answers = 0
  const pytorch = Object.assign(
    fake(({ batch }) => batch),
    { ask: async () => (++answers < 3 ? { seconds: [1, 1], loss: 1 } : Promise.reject(new Error('killed'))) },
  )
  const { series, lost } = await runRounds({ ours: fake(({ batch }) => batch), pytorch }, [1, 2], 2)
  expect(lost).toBe('killed')
  expect(answers).toBe(3)
  expect(series.map(({ contender, model, batch }) => [contender, model, batch])).toEqual([
    ['ours', 'vanilla', 1],
    ['ours', 'mor', 1],
    ['ours', 'vanilla', 2],
    ['ours', 'mor', 2],
  ])
  expect(series.every(({ tokensPerSecond }) => tokensPerSecond.length === 2)).toBe(true)
})

test('without a rival only ours runs', async () => {
  const { series, lost } = await runRounds({ ours: fake(() => 1) }, [1], 1)
  expect(lost).toBeUndefined()
  expect(series.map(({ contender }) => contender)).toEqual(['ours', 'ours'])
})

test('chooseBatches goes two sizes beyond the fastest', async () => {
  // A step takes 1 second up to batch 8 and batch / 8 seconds above, so larger batches bring no more tokens per second.
  const batches = await chooseBatches(fake(({ batch }) => Math.max(1, batch / 8)))
  expect(batches).toEqual([1, 2, 4, 8, 16, 32])
})

test('rounds alternate between the contenders, and the first step of each request is not counted', async () => {
  const log: string[] = []
  const contenders = { ours: fake(({ batch }) => batch * 0.5, log), pytorch: fake(({ batch }) => batch, log) }
  const { series } = await runRounds(contenders, [1, 4], 2)
  expect(log).toHaveLength(2 * 2 * 2 * 2)
  expect(series).toContainEqual({ contender: 'ours', model: 'mor', batch: 4, tokensPerSecond: [1024, 1024] })
  expect(series.map(({ contender }) => contender)).toEqual(Array(4).fill(['ours', 'pytorch']).flat())
})

test('fastest goes by the median', () => {
  const one = { contender: 'ours', model: 'mor' } as const
  const steady = { ...one, batch: 2, tokensPerSecond: [10, 10, 10] }
  const lucky = { ...one, batch: 4, tokensPerSecond: [9, 9, 99] }
  const other = { ...one, contender: 'pytorch' as const, batch: 8, tokensPerSecond: [50, 50, 50] }
  expect(fastest([lucky, steady, other], 'ours', 'mor')).toBe(steady)
})
