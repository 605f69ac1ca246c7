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
  const { best, rates } = await choosePrecision(fake(seconds, log))
  expect(best).toBe('bfloat16')
  expect(rates.get('float32')).toEqual({ batch: 1, tokensPerSecond: [512 / 20] })
  expect(rates.get('autocast')).toEqual({ batch: 4, tokensPerSecond: [512, 512, 512] })
  expect(log).not.toContain('step float32 4')
  expect(log.slice(-2)).toEqual(['build vanilla bfloat16', 'build mor bfloat16'])
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
