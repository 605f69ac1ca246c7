// Steps of a vanilla model in PyTorch, in a process of Python that this one starts.
import { join } from 'node:path'
import type { ModelConfig } from '../../lib/index.js'
import { Contender } from '../lib/contender.js'
import { pytorchShape } from '../lib/pytorch_shape.js'
import { median } from '../lib/statistics.js'
import type { Common, Find } from './findings.js'

/** Its path beside the built files, since the TypeScript compiler copies no Python. */
const script = join('bench', 'baselines', 'pytorch_train_gpu.py')

export interface PytorchRequest {
  /** Of the figures. */
  name: string
  config: ModelConfig
  batch: { rows: number; length: number }
  compiled: boolean
}

export interface PytorchFact {
  seconds: number
}

interface Answer {
  seconds: number[]
  memoryBytes: number
}

export async function pytorch(request: PytorchRequest & Common, find: Find): Promise<void> {
  const { name, config, batch, compiled, rounds } = request
  const contender = await Contender.start('python3', [script])
  const step = {
    shape: pytorchShape(config),
    batch: batch.rows,
    length: batch.length,
    warmUp: 3,
    steps: rounds,
    seed: 1,
  }
  const { seconds, memoryBytes } = await contender.ask<Answer>('train', { ...step, compiled })
  await contender.end()
  const note = `${contender.description}, FlashAttention`
  find({ figure: `pytorch_${name}_step`, values: seconds.map((one) => one * 1e3), unit: 'ms', note })
  find({
    figure: `pytorch_${name}_memory`,
    values: [memoryBytes / 2 ** 20],
    unit: 'MiB',
    note: 'the most allocated at once',
  })
  const value: PytorchFact = { seconds: median(seconds) }
  find({ fact: name, value })
}
