// Our contender in the training bench: trains through the public API, in a process of its own, over the line protocol.
import { Model, type ModelConfig, Trainer } from '../../lib/index.js'
import { withEventLoopDelay } from '../lib/event_loop.js'
import { randomTokens } from '../lib/random_tokens.js'
import { residentBytes } from '../lib/resident.js'
import { serveLines } from '../lib/serve_lines.js'
import type { MemoryAnswer, OurStepAnswer, StepRequest } from './contenders.js'

const startBytes = residentBytes('VmRSS')
const jobs = new Map<string, { model: Model; trainer: Trainer }>()

async function build(request: { name: string; config: ModelConfig; threads: number }) {
  const model = await Model.create(request.config, { device: 'cpu', threads: request.threads, seed: 1 })
  const trainer = new Trainer(model, { learningRate: 1e-3, betas: [0.9, 0.95], weightDecay: 0.1, gradientClip: 1 })
  jobs.set(request.name, { model, trainer })
  return {}
}

async function step(request: StepRequest): Promise<OurStepAnswer> {
  const { model, trainer } = jobs.get(request.name)!
  const vocabulary = model.config.vocab_size
  const seconds: number[] = []
  const { result, eventLoopDelay } = await withEventLoopDelay(async () => {
    let last = { loss: Number.NaN, flops: Number.NaN, memoryBytes: Number.NaN }
    const start = performance.now()
    const late = () => (performance.now() - start) / 1000 >= request.limit
    for (let i = 0; i < request.steps && (i < 2 || !late()); i++) {
      const rows = Array.from({ length: request.batch }, (_, row) =>
        randomTokens(request.length + 1, vocabulary, (request.seed * 1000 + i) * 1000 + row + 1),
      )
      const before = performance.now()
      last = await trainer.step(rows)
      seconds.push((performance.now() - before) / 1000)
    }
    return last
  })
  const { loss, flops, memoryBytes } = result
  return { seconds, loss, flops, memoryBytes, eventLoopDelay }
}

function memory(): MemoryAnswer {
  return { startBytes, peakBytes: residentBytes('VmHWM') }
}

void serveLines('mixture-of-recursions', { build, step, memory })
