// What the ranks of a run agree on, with ranks that are promises of one process, and which rows each one takes.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { exitCodeOf, Interruption } from '../../../lib/cli/failure.js'
import { nextRows, RunRanks, rowsOfRank } from '../../../lib/cli/ranks.js'
import { buildDataset, Dataset, DatasetMix } from '../../../lib/dataset.js'
import type { DeviceOption } from '../../../lib/devices.js'
import { MorError } from '../../../lib/errors.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { onAll, thrown } from './fake_ranks.js'

vi.mock('../../../lib/devices.js', () => ({
  devices: () => [{ id: 'cpu', threads: 7 }],
  selectDevice: (option: string) => option,
}))
vi.mock('../../../lib/native_loader.js', () => ({ loadNative: () => null }))

describe('ranks', () => {
  it('run work together, and the first one alone for all', async () => {
    expect(await onAll(3, (ranks, rank) => ranks.together(async () => 10 * rank))).toEqual([0, 10, 20])
    expect(await onAll(3, (ranks, rank) => ranks.first(async () => ({ from: rank })))).toEqual(
      Array.from({ length: 3 }, () => ({ from: 0 })),
    )
  })

  it('fail together: the one that failed by its own error, the others by its name', async () => {
    const own = new MorError('IO_ERROR', 'the disk is full')
    const errors = await onAll(3, async (ranks, rank) => {
      const error = await thrown(
        ranks.together(async () => {
          if (rank === 1) throw own
        }),
      )
      // They go on together.
      expect(await ranks.first(async () => 'next')).toBe('next')
      return error
    })
    expect(errors[1]).toBe(own)
    for (const rank of [0, 2])
      expect(errors[rank]).toMatchObject({ code: 'IO_ERROR', message: 'rank 1: the disk is full' })
  })

  it('read the same files, rank 0 first: what only another one misses is not shared', async () => {
    const missing = async () => {
      throw new MorError('IO_ERROR', 'there is no file')
    }
    expect(await onAll(2, (ranks, rank) => ranks.read(async () => rank))).toEqual([0, 1])
    const shared = await onAll(2, (ranks) => thrown(ranks.read(missing)))
    expect(shared.map((error) => (error as Error).message)).toEqual(['there is no file', 'rank 0: there is no file'])
    const message =
      'there is no file; rank 0 could read it: give all ranks the same files, on several machines by a network file system'
    const errors = await onAll(2, (ranks, rank) => thrown(ranks.read(rank === 1 ? missing : async () => 5)))
    for (const error of errors) expect(error).toMatchObject({ code: 'IO_ERROR' })
    expect(errors.map((error) => (error as Error).message)).toEqual([`rank 1: ${message}`, message])
  })

  it('stop together when one is told to', async () => {
    const controller = new AbortController()
    const own = new AbortController().signal
    await onAll(
      2,
      async (ranks, rank) => {
        await ranks.together(async () => {})
        expect(ranks.signal.aborted).toBe(false)
        if (rank === 1) controller.abort(new Interruption('stopped by SIGTERM', 143))
        await ranks.together(async () => {})
        expect(ranks.signal.reason).toMatchObject({ message: 'rank 1 was stopped by SIGTERM' })
        expect(exitCodeOf(ranks.signal.reason)).toBe(143)
      },
      [own, controller.signal],
    )
  })

  it('know why work was aborted on another one', async () => {
    const signal = AbortSignal.abort(new Interruption('stopped by SIGINT', 130))
    const errors = await onAll(
      2,
      (ranks, rank) =>
        thrown(
          ranks.together(async () => {
            if (rank === 0) throw new MorError('ABORTED', 'it was aborted', { cause: signal.reason })
          }),
        ),
      [signal],
    )
    for (const error of errors) {
      expect(error).toMatchObject({ code: 'ABORTED' })
      expect(exitCodeOf(error)).toBe(130)
    }
  })

  it('must have the same options, which are named with both values', async () => {
    await onAll(2, (ranks) => ranks.same({ a: [1, 2], b: 'x' }))
    const message = async (values: Record<string, unknown>[]) => {
      const errors = await onAll(values.length, (ranks, rank) => thrown(ranks.same(values[rank]!)))
      const messages = errors.map((error) => {
        expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' })
        return (error as Error).message
      })
      expect(new Set(messages).size).toBe(1)
      return messages[0]
    }
    expect(
      await message([
        { a: 1, '--steps': 5 },
        { a: 1, '--steps': 5 },
        { a: 1, '--steps': 6 },
      ]),
    ).toBe(
      'ranks differ in --steps: 5 on rank 0, but 6 on rank 2; start all ranks with the same command, files and version',
    )
    expect(await message([{ '--from': 'here' }, {}])).toContain(
      'ranks differ in --from: here on rank 0, but nothing on rank 1',
    )
    expect(await message([{}, { '--data': ['a', 'b'] }])).toContain(
      '--data: nothing on rank 0, but ["a","b"] on rank 1',
    )
  })

  it('share the processors that they have together, but each has one', async () => {
    expect(await onAll(2, (ranks) => ranks.defaultThreads())).toEqual([3, 3])
    expect(await onAll(9, (ranks) => ranks.defaultThreads())).toEqual(Array.from({ length: 9 }, () => 1))
  })

  it('have devices of one kind, on which they can train together', async () => {
    const choose = (options: DeviceOption[]) =>
      onAll(options.length, (ranks, rank) => ranks.device(options[rank]!).catch((error: unknown) => error))
    expect(await choose(['cuda:0', 'cuda:1'])).toEqual(['cuda:0', 'cuda:1'])
    expect(await choose(['cpu', 'cpu'])).toEqual(['cpu', 'cpu'])
    for (const error of await choose(['cuda:0', 'cuda:1', 'cpu'])) {
      expect(error).toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining(
          'ranks differ in the kind of their devices: cuda on rank 0, but cpu on rank 2',
        ),
      })
    }
    const [first, second] = await choose(['cuda:0', 'unfit' as DeviceOption])
    expect(first).toMatchObject({ code: 'COMMUNICATION_FAILED', message: 'rank 1: it does not fit' })
    expect(second).toMatchObject({ code: 'COMMUNICATION_FAILED', message: 'it does not fit' })
  })

  it('of one process are this one alone', async () => {
    const controller = new AbortController()
    const alone = new RunRanks(null, controller.signal)
    expect(await alone.first(() => alone.together(async () => 5))).toBe(5)
    await alone.same({ a: 1 })
    controller.abort(new Interruption('stopped by SIGTERM', 143))
    expect(alone.signal.reason).toBe(controller.signal.reason)
    await alone[Symbol.asyncDispose]()
  })
})

describe('a batch', () => {
  it('must have equal parts for all ranks', () => {
    expect(rowsOfRank(12, 4, false)).toBe(3)
    const refusal = (batchSize: number, ranks: number, resumed: boolean) => {
      try {
        return rowsOfRank(batchSize, ranks, resumed)
      } catch (error) {
        expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' })
        return (error as Error).message
      }
    }
    const problem = (rows: number, ranks: number) =>
      `--batch-size is ${rows}, the rows of all ranks together, which ${ranks} ranks do not divide; `
    expect(refusal(10, 4, false)).toBe(`${problem(10, 4)}give 8 or 12`)
    expect(refusal(2, 4, false)).toBe(`${problem(2, 4)}give 4`)
    expect(refusal(12, 5, true)).toBe(`${problem(12, 5)}the run goes on with 4 or 6 of them`)
    expect(refusal(2, 4, true)).toBe(`${problem(2, 4)}the run goes on with 2 of them`)
  })

  const root = mkdtempSync(join(tmpdir(), 'mor-ranks-'))
  afterAll(() => rmSync(root, { recursive: true }))
  const folders = ['a', 'b'].map((name) => join(root, name))
  beforeAll(async () => {
    for (const [i, folder] of folders.entries()) {
      writeFileSync(`${folder}.txt`, Array.from({ length: 300 }, (_, n) => `${i} ${n}`).join(' '))
      await buildDataset([`${folder}.txt`], folder, { tokenizer: Tokenizer.byteLevel() })
    }
  })

  it.each([
    ['a dataset', () => Dataset.open(folders[0]!, { length: 8, seed: 3 })],
    [
      'a mix',
      () =>
        DatasetMix.open(
          folders.map((folder, i) => ({ folder, weight: i + 1 })),
          { length: 8, seed: 3 },
        ),
    ],
  ])('of %s is divided, micro-batch by micro-batch, and its order does not depend on the ranks', async (_, open) => {
    const shape = { batchSize: 6, microBatches: 2 }
    await using whole = await open()
    const expected = [await whole.next(12), await whole.next(12)]
    for (const size of [1, 2, 3]) {
      const rows = shape.batchSize / size
      const parts = await Promise.all(
        Array.from({ length: size }, async (_, rank) => {
          await using data = await open()
          const part = { rows, microBatches: shape.microBatches, rank, size }
          const steps = [await nextRows(data, part), await nextRows(data, part)]
          expect(data.state()).toEqual(whole.state())
          return steps
        }),
      )
      for (const [step, batch] of expected.entries()) {
        for (const m of [0, 1]) {
          const joined = parts.flatMap((steps) => steps[step]!.slice(m * rows, (m + 1) * rows))
          expect(joined).toEqual(batch.slice(6 * m, 6 * m + 6))
        }
      }
    }
  })
})
