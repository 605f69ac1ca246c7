// The API of ranks on the real addon: what it refuses in a process without a launcher, two ranks under Open MPI, and two as torchrun
// starts them.
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { joinRanks, launcher, Model, Trainer } from '../../lib/index.js'
import { isInstalled, openMpi, startRanks } from './mpi_launchers.js'
import { freePort, startTorchRanks } from './torch_ranks.js'

const config = { vocab_size: 64, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 2 }
const load = { device: 'cpu', dtype: 'float32', threads: 1, seed: 1 } as const

/** The variables of a launcher, while `work` runs. */
async function under<T>(variables: Record<string, string>, work: () => Promise<T>): Promise<T> {
  Object.assign(process.env, variables)
  try {
    return await work()
  } finally {
    for (const name of Object.keys(variables)) delete process.env[name]
  }
}

describe('without other ranks', () => {
  it('there is no launcher, and nothing to join', async () => {
    expect(launcher()).toBe(null)
    await expect(joinRanks()).rejects.toMatchObject({
      code: 'COMMUNICATION_FAILED',
      message: expect.stringContaining('no launcher started this process'),
    })
  })

  it('ranks that nobody joins are named, with the limit', async () => {
    const port = await freePort()
    const variables = { WORLD_SIZE: '3', MASTER_ADDR: '127.0.0.1', MASTER_PORT: String(port) }
    for (const [rank, message] of [
      [
        0,
        `ranks 1, 2 of 3 did not join within 0.2 s at 127.0.0.1:${port}; look whether they were started, and reach this address`,
      ],
      [
        1,
        `rank 0 was not there within 0.2 s: 127.0.0.1:${port}: Connection refused; start all ranks, with MASTER_ADDR an address of rank 0's machine and the same port on all`,
      ],
    ] as const) {
      await under({ ...variables, RANK: String(rank), LOCAL_RANK: String(rank) }, async () => {
        expect(launcher()).toEqual({ name: 'torchrun', rank, size: 3, localRank: rank })
        await expect(joinRanks({ joinTimeout: 0.2 })).rejects.toMatchObject({ code: 'COMMUNICATION_FAILED', message })
      })
    }
  })

  it('joining can be aborted', async () => {
    const controller = new AbortController()
    const variables = { RANK: '0', WORLD_SIZE: '2', MASTER_ADDR: '127.0.0.1', MASTER_PORT: String(await freePort()) }
    await under(variables, async () => {
      const joined = joinRanks({ signal: controller.signal })
      setTimeout(() => controller.abort(), 100)
      await expect(joined).rejects.toMatchObject({ code: 'ABORTED' })
      // The port is free again.
      await vi.waitFor(
        () => expect(joinRanks({ joinTimeout: 0.05 })).rejects.toThrow('rank 1 of 2 did not join within 0.05 s'),
        { timeout: 20_000 },
      )
    })
  })

  it('wrong variables and options are refused', async () => {
    await under({ PMI_RANK: '2', PMI_SIZE: '2' }, async () => {
      expect(launcher).toThrow(expect.objectContaining({ code: 'COMMUNICATION_FAILED' }))
    })
    for (const [options, message] of [
      [{ joinTimeout: 0 }, 'joinTimeout is 0'],
      [{ silenceTimeout: 'long' }, 'silenceTimeout is "long"'],
      [{ timeout: 1 }, 'timeout'],
    ] as const)
      await expect(joinRanks(options as object)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining(message),
      })
    await expect(joinRanks({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' })
    await using model = await Model.create(config, load)
    for (const [distributed, message] of [
      [{ ranks: {} }, 'ranks is {}; give what joinRanks resolves to'],
      [{ ranks: null }, 'ranks is null'],
      [5, 'distributed is 5'],
    ] as const) {
      expect(() => new Trainer(model, { learningRate: 0.1, distributed: distributed as never })).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) }),
      )
    }
  })

  it('one rank needs no library, and trains as without ranks', async () => {
    const rows = [Int32Array.from({ length: 17 }, (_, i) => (5 * i) % 64)]
    const variables = { PMI_RANK: '0', PMI_SIZE: '1', MOR_MPI_LIBRARY: '/nowhere/libmpi.so' }
    await using ranks = await under(variables, () => joinRanks())
    expect([ranks.rank, ranks.size, await ranks.gather('alone')]).toEqual([0, 1, ['alone']])
    const losses: number[] = []
    for (const distributed of [null, { ranks, gradientDtype: 'bfloat16' as const }]) {
      await using model = await Model.create(config, load)
      await using trainer = new Trainer(model, { learningRate: 0.1, distributed })
      expect(trainer.ranks).toBe(distributed?.ranks ?? null)
      await trainer.step(rows)
      const { loss, communicationSeconds } = await trainer.step(rows)
      losses.push(loss)
      expect(communicationSeconds).toBe(null)
    }
    expect(losses[0]).toBe(losses[1])
  })
})

it.skipIf(!isInstalled(openMpi))('two ranks gather, train, and leave in any order', { timeout: 120_000 }, async () => {
  const program = ['--import', 'tsx', join('test', 'lib', 'distributed_rank.ts')]
  const { stdout, stderr, code } = await startRanks(openMpi, 2, program).ended
  const lines = [0, 1].map((rank) =>
    stdout.split('\n').flatMap((line) => (line.startsWith(`rank ${rank}: `) ? [line.slice(8)] : [])),
  )
  const [first, second] = lines.map((of) => of.join('\n')) as [string, string]
  const context = `${stdout}\n${stderr}`
  for (const of of [first, second]) {
    expect(of, context).toMatch(/no text: INVALID_ARGUMENT (rank 1: )?gather: text is 5; give a string\n/)
    expect(of, context).toContain('of 2, gathered text 0 ü,text 1 ü\n')
    expect(of, context).toContain('joined again: COMMUNICATION_FAILED this process has joined the other ranks already')
    expect(of, context).toContain('disposed: DISPOSED the communicator is disposed\n')
    expect(of, context).toContain('disposed for a trainer: DISPOSED the communicator is disposed\n')
    expect(of, context).toContain(
      'other options: INVALID_ARGUMENT ranks differ in learningRate: 0.01 on rank 0, but 0.02 on rank 1; give all',
    )
    expect(of, context).toMatch(/losses \S+ of 32, true,\S+ of 32, true\n/)
    expect(of, context).toMatch(/wrong row: TOKEN_OUT_OF_RANGE (rank 1: )?row 0: the token at index 1 is 65/)
    expect(of, context).toMatch(/aborted: ABORTED (rank 0: )?a step was aborted/)
    expect(of, context).toMatch(/wrong folder: INVALID_ARGUMENT (rank 1: )?save: the folder is ""/)
    expect(of, context).toMatch(
      /step and save: COMMUNICATION_FAILED rank (0 takes a step, but rank 1 saves a|1 saves a checkpoint, but rank 0 takes a)/,
    )
    expect(of, context).toContain('step 3 by 16 targets')
    expect(of, context).toContain('second trainer: INVALID_ARGUMENT the ranks train another model')
    expect(of, context).toMatch(/step of ranks that are disposed: COMMUNICATION_FAILED\nends$/)
  }
  expect(lines[0]!.find((line) => line.startsWith('losses'))).toBe(lines[1]!.find((line) => line.startsWith('losses')))
  expect(second, context).toContain('refused trainer: INVALID_ARGUMENT Trainer: learningRate is -1')
  expect(first, context).toContain(
    'call after it: COMMUNICATION_FAILED rank 0 makes a trainer, but rank 1 gathers texts',
  )
  expect(second, context).toContain(
    'call after it: COMMUNICATION_FAILED rank 1 gathers texts, but rank 0 makes a trainer',
  )
  expect(first, context).toContain(
    'different calls: COMMUNICATION_FAILED rank 0 takes a step, but rank 1 gathers texts',
  )
  expect(second, context).toContain(
    'different calls: COMMUNICATION_FAILED rank 1 gathers texts, but rank 0 takes a step',
  )
  expect(code).toBe(0)
})

it('ranks as torchrun starts them gather, and are told that CPUs need MPI', { timeout: 120_000 }, async () => {
  const ended = await startTorchRanks(2, ['--import', 'tsx', join('test', 'lib', 'torch_rank.ts')])
  expect(ended.map(({ stdout }) => stdout)).toEqual(
    [0, 1].map((rank) =>
      [
        `rank ${rank} of 2, gathered text 0 ü,text 1 ü`,
        `trainer: COMMUNICATION_FAILED torchrun started this process as rank ${rank} of 2, but ranks on CPUs need MPI; start them with 'mpirun -n <ranks>' or 'srun'`,
        'joined again: gathered 0,1',
        `left alone: ${rank === 0 ? 'COMMUNICATION_FAILED' : 'DISPOSED'}`,
        '',
      ].join('\n'),
    ),
  )
})
