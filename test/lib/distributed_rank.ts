// What distributed.native.test.ts runs as each of two ranks: every call of the API of ranks. Writes one line for each thing that it finds.
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isMainThread, Worker } from 'node:worker_threads'
import { joinRanks, launcher, Model, type MorError, type Ranks, Trainer } from '../../lib/index.js'

const { rank } = launcher()!
const say = (text: string) => process.stdout.write(`rank ${rank}: ${text}\n`)

async function codeOf(work: Promise<unknown> | (() => unknown)): Promise<string> {
  try {
    await (typeof work === 'function' ? work() : work)
    return 'no error'
  } catch (error) {
    const { code, message } = error as MorError
    return `${code} ${message}`
  }
}

const newModel = () =>
  Model.create(
    { vocab_size: 64, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 2 },
    { device: 'cpu', dtype: 'float32', threads: 1, seed: 1 },
  )
const rowsOf = (first: number) => [Int32Array.from({ length: 17 }, (_, i) => (first + 5 * i) % 64)]

/** Arguments that one rank refuses before its part of the call begins, and different calls; the step after them is the third one of both. */
async function refuseOnOneRank(trainer: Trainer): Promise<void> {
  const wrongRow = [Int32Array.of(1, 64 + rank)]
  say(`wrong row: ${await codeOf(trainer.step(rank === 1 ? wrongRow : rowsOf(0)))}`)
  const signal = rank === 0 ? AbortSignal.abort() : undefined
  say(`aborted: ${await codeOf(trainer.step(rowsOf(0), { signal }))}`)
  say(`wrong folder: ${await codeOf(trainer.save(rank === 1 ? '' : join(tmpdir(), 'mor-never-saved')))}`)
  const either = rank === 0 ? trainer.step(rowsOf(0)) : trainer.save(join(tmpdir(), 'mor-never-saved'))
  say(`step and save: ${await codeOf(either)}`)
  const [tokens] = rowsOf(0)
  const nothing = { tokens: tokens!, lossMask: new Uint8Array(17) }
  const { lossTokens } = await trainer.step(rank === 1 ? [nothing] : rowsOf(0))
  say(`step ${trainer.stepsDone} by ${lossTokens} targets`)
}

/** The sizes of these trainers are equal, so that nothing but the comparison finds the difference. */
async function trainWithOtherOptions(model: Model, ranks: Ranks): Promise<void> {
  const trainer = new Trainer(model, { learningRate: 0.01 * (rank + 1), distributed: { ranks } })
  say(`other options: ${await codeOf(trainer.step(rowsOf(0)))}`)
  await trainer.dispose()
}

/** Options that one rank alone refuses: the others hear of it when it makes another call, this one. */
async function refuseTrainerOnOneRank(model: Model, ranks: Ranks): Promise<void> {
  const make = () => new Trainer(model, { learningRate: rank === 1 ? -1 : 0.01, distributed: { ranks } })
  if (rank === 1) say(`refused trainer: ${await codeOf(make)}`)
  const trainer = rank === 0 ? make() : null
  say(`call after it: ${await codeOf(trainer === null ? ranks.gather('next') : trainer.step(rowsOf(0)))}`)
  await trainer?.dispose()
}

async function takeSteps(): Promise<void> {
  const first = await joinRanks()
  say(`no text: ${await codeOf(first.gather(rank === 1 ? (5 as never) : 'text'))}`)
  say(`of ${first.size}, gathered ${await first.gather(`text ${rank} ü`)}`)
  say(`joined again: ${await codeOf(joinRanks())}`)
  await first.dispose()
  await first.dispose()
  say(`disposed: ${await codeOf(first.gather('x'))}`)

  const ranks = await joinRanks({ silenceTimeout: 60 })
  const model = await newModel()
  say(
    `disposed for a trainer: ${await codeOf(() => new Trainer(model, { learningRate: 0.01, distributed: { ranks: first } }))}`,
  )
  await trainWithOtherOptions(model, ranks)
  await refuseTrainerOnOneRank(model, ranks)
  const distributed = { ranks, gradientDtype: 'float32', bucketBytes: 4096 } as const
  const trainer = new Trainer(model, { learningRate: 0.01, distributed })
  const steps = [await trainer.step(rowsOf(7 * rank)), await trainer.step(rowsOf(7 * rank + 1))]
  say(`losses ${steps.map(({ loss, tokens, slowestRank }) => `${loss} of ${tokens}, ${slowestRank! >= 0}`)}`)
  await refuseOnOneRank(trainer)
  const second = await newModel()
  say(`second trainer: ${await codeOf(() => new Trainer(second, { learningRate: 0.01, distributed }))}`)
  await second.dispose()

  const wrong = rank === 0 ? trainer.step([new Int32Array(17).fill(1)]) : ranks.gather('not a step')
  say(`different calls: ${await codeOf(wrong)}`)
  // Rank 0 leaves while it waits for a step that rank 1 does not take before it has left, too.
  if (rank === 1) await new Promise((resolve) => setTimeout(resolve, 1000))
  const waiting = rank === 0 ? codeOf(trainer.step(rowsOf(0))) : null
  await ranks.dispose()
  say(`step of ranks that are disposed: ${(await (waiting ?? codeOf(trainer.step(rowsOf(0))))).slice(0, 20)}`)
  // The model and its trainer are left to the end of the process.
}

/** Rank 1 works in a thread that is terminated, with everything open. */
async function main(): Promise<void> {
  if (rank === 0 || !isMainThread) {
    await takeSteps()
    if (!isMainThread) {
      setInterval(() => {}, 1000)
      return
    }
  } else {
    // The hooks that let Node read TypeScript are those of the main thread only.
    const source = `require('tsx/cjs'); require(${JSON.stringify(fileURLToPath(import.meta.url))})`
    const worker = new Worker(source, { eval: true, stdout: true })
    const done = new Promise<void>((resolve, reject) => {
      worker.on('error', reject)
      worker.stdout.on('data', (text: Buffer) => {
        process.stdout.write(text)
        if (text.toString().includes('that are disposed')) resolve()
      })
    })
    await done
    await worker.terminate()
  }
  say('ends')
  if (rank === 0) process.exit(0)
}

main().catch((error: unknown) => {
  say(`failed: ${error}`)
  process.exit(1)
})
