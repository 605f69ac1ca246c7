// Runs of `mor train` on the stand-in addon, each test's in a folder of its own.
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Output } from '../../../lib/cli/output.js'
import { train } from '../../../lib/cli/train.js'
import type { TrainOptions } from '../../../lib/cli/train_options.js'
import type { FakeAddon } from '../fake_addon.js'
import { RecordingStream } from './recording_stream.js'

export const tiny = {
  hidden_size: 8,
  intermediate_size: 8,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  max_position_embeddings: 64,
  num_recursions: 3,
  router: { type: 'expert_choice', selection: 'topk' },
}

/** A new folder with text.jsonl and tiny.json. */
export function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'mor-train-'))
  writeFileSync(
    join(folder, 'text.jsonl'),
    Array.from({ length: 100 }, (_, i) => `{"text":"document ${i} of a hundred"}`).join('\n'),
  )
  writeFileSync(join(folder, 'tiny.json'), JSON.stringify(tiny))
  return folder
}

function options(folder: string, changes: Partial<TrainOptions>): TrainOptions {
  return {
    output: join(folder, 'run'),
    config: join(folder, 'tiny.json'),
    data: [join(folder, 'text.jsonl')],
    tokenizer: 'byte-level',
    textField: 'text',
    validationFraction: 0.2,
    length: 16,
    batchSize: 2,
    gradientAccumulation: 2,
    steps: 9,
    learningRate: 0.01,
    schedule: 'trapezoid',
    weightDecay: 0.1,
    gradientClip: 1,
    seed: 1,
    device: 'auto',
    dtype: 'bfloat16',
    threads: 0,
    evalEvery: 4,
    evalBatches: 2,
    saveEvery: 4,
    ...changes,
  }
}

/** Trains in the run of `folder`, from its text. */
export async function runIn(
  folder: string,
  changes: Partial<TrainOptions>,
  signal = new AbortController().signal,
  stream = new RecordingStream(false),
) {
  const result = await train(options(folder, changes), new Output(stream), signal)
  return { result, stream }
}

/** A signal that aborts when training has begun its n-th step from now. */
export function abortAtStep(addon: FakeAddon, n: number): AbortSignal {
  const controller = new AbortController()
  let left = n
  const { calls } = addon
  const push = calls.push.bind(calls)
  calls.push = (...names: string[]) => {
    const length = push(...names)
    if (names[0] === 'step' && --left === 0) controller.abort()
    return length
  }
  return controller.signal
}

export const weights = (output: string) =>
  readFileSync(join(output, 'checkpoint', 'model.safetensors'))
    .subarray(-400)
    .toString('hex')
export const metrics = (output: string) =>
  readFileSync(join(output, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
