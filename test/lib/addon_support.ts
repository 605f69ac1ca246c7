// What the tests of the real addon share: tiny models of every kind, objects and files that are removed when a test file
// ends, and programs that use the addon in processes and threads of their own.
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { resolveConfig } from '../../lib/config.js'
import { toNativeConfig } from '../../lib/config_native.js'
import type { NativeAddon } from '../../lib/native/addon.js'
import type { NativeConfig } from '../../lib/native/config.js'
import type { NativeEngineOptions, NativeGenerateParams } from '../../lib/native/engine.js'
import type { NativeSavedFile, SafetensorsFloat } from '../../lib/native/files.js'
import type { DType, NativeModel } from '../../lib/native/model.js'
import type { NativeTrainer, NativeTrainerOptions } from '../../lib/native/trainer.js'
import { loadNative } from '../../lib/native_loader.js'
import { buildSafetensorsHeader, readSafetensorsFile } from '../../lib/safetensors.js'

export const addon: NativeAddon = loadNative()

export const binary = (createRequire(import.meta.url)('node-gyp-build') as { path(root: string): string }).path(
  resolve('.'),
)

const vanilla = {
  vocab_size: 48,
  hidden_size: 16,
  intermediate_size: 32,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  max_position_embeddings: 32,
}
const recursive = { ...vanilla, num_recursions: 3 }
const expert = { ...recursive, router: { type: 'expert_choice' } }

/** One of each kind, by name. */
export const configs = {
  vanilla,
  'vanilla, untied': { ...vanilla, tie_word_embeddings: false },
  'vanilla, bias, head norms, scaled rotary': {
    ...vanilla,
    qkv_bias: true,
    qk_norm: true,
    rope_scaling: {
      rope_type: 'llama3',
      factor: 4,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 16,
    },
  },
  'recursive, sequence': { ...recursive, num_hidden_layers: 6, sharing: 'sequence' },
  recursive,
  'expert choice': expert,
  'expert choice, mlp, auxiliary router, hybrid': {
    ...recursive,
    kv_cache: 'hybrid',
    router: { type: 'expert_choice', architecture: 'mlp', auxiliary_router: true },
  },
  'expert choice by threshold, hybrid': {
    ...recursive,
    kv_cache: 'hybrid',
    router: { type: 'expert_choice', selection: 'threshold' },
  },
  'token choice, shared': { ...recursive, kv_cache: 'shared', router: { type: 'token_choice' } },
  'token choice, loss-free': { ...recursive, router: { type: 'token_choice', balancing: 'loss_free' } },
}

export function nativeConfig(name: keyof typeof configs) {
  return toNativeConfig(resolveConfig(configs[name]))
}

/** A model with routers whose steps take long enough to be met in the middle. */
export const slowConfig = toNativeConfig(
  resolveConfig({
    ...expert,
    vocab_size: 2048,
    hidden_size: 256,
    intermediate_size: 704,
    num_attention_heads: 4,
    num_key_value_heads: 4,
    max_position_embeddings: 512,
  }),
)
export const slowLength = 256

export const trainerOptions: NativeTrainerOptions = {
  learningRate: 0.01,
  schedule: { type: 'constant', warmupSteps: 0, totalSteps: 0, cooldownSteps: 0, minimumRatio: 0 },
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.1,
  gradientClip: 1,
  recompute: false,
  weightHashInterval: 100,
  depthSchedule: { from: 1, steps: 0, dropout: 0 },
  parameters: [],
  holdRouterState: false,
  capacityWarmupSteps: null,
  distillation: null,
  distributed: null,
}

export const generateParams: NativeGenerateParams = {
  maxTokens: 8,
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  seed: 0,
  logitBias: { tokens: new Int32Array(), values: new Float32Array() },
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  stop: new Int32Array(),
  minTokens: 0,
  routerThreshold: 0.5,
  maxRecursions: 0,
  logprobs: true,
  topLogprobs: 0,
  promptLogprobs: -1,
  promptLogprobsFrom: 1,
  priority: 0,
}

export const engineOptions: NativeEngineOptions = {
  maxBatchSize: 4,
  prefillChunk: 256,
  kvCacheBytes: 0,
  prefixCache: true,
}

export const forwardOptions = { routing: 'topk', routerThreshold: 0.5, maxRecursions: 0 } as const

/** Token ids with a pattern that a model can learn. */
export function patternTokens(count: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => (i * 5) % 13)
}

/** For one test file: models and trainers on the CPU, and a folder. After its last test all are gone. */
export function addonFixture() {
  const folder = join(tmpdir(), `mor-addon-${randomUUID()}`)
  const open: { dispose(): Promise<void> }[] = []
  beforeAll(() => {
    mkdirSync(folder)
  })
  afterAll(async () => {
    await Promise.all(open.map((object) => object.dispose()))
    rmSync(folder, { recursive: true })
  })

  async function newModel(config: NativeConfig, dtype: DType = 'float32', seed = 1): Promise<NativeModel> {
    const model = await addon.createModel(config, { device: 'cpu', dtype, threads: 0, nice: 5 })
    open.push(model)
    await model.init(seed)
    return model
  }

  function newTrainer(model: NativeModel, options = trainerOptions): NativeTrainer {
    const trainer = addon.createTrainer(model, options)
    open.push(trainer)
    return trainer
  }

  return { folder, newModel, newTrainer }
}

export const tinyStep = (trainer: NativeTrainer) =>
  trainer.step(patternTokens(4 * 17), null, Int32Array.of(2, 16, 2, 16))
export const slowStep = (trainer: NativeTrainer) =>
  trainer.step(patternTokens(4 * (slowLength + 1)), null, Int32Array.of(4, slowLength))
export const forward = (model: NativeModel) => model.forward(patternTokens(24), 2, 12, forwardOptions)

export type Named = { name: string; shape: number[] }

/** Tensors of a model or a trainer, all in one dtype. */
export async function writeFile(
  target: { save(folder: string, files: NativeSavedFile[]): Promise<void> },
  tensors: Named[],
  dtype: 'F32' | 'BF16',
  path: string,
): Promise<void> {
  const entries = tensors.map(({ name, shape }) => ({ name, shape, dtype }))
  const file = { name: basename(path), head: [buildSafetensorsHeader(entries)], tensors: entries }
  await target.save(dirname(path), [file])
}

/** All tensors of a file, as `read` takes them. */
export async function filesToRead(path: string) {
  const { tensors } = await readSafetensorsFile(path)
  return [{ path, tensors: tensors.map((tensor) => ({ ...tensor, dtype: tensor.dtype as SafetensorsFloat })) }]
}

/**
 * The source of a program that runs `body`, an async function's body, with `addon`, `slowTrainer()` whose `step()` takes a
 * while, and `tiny()` that has made, trained and generated.
 */
export function programSource(body: string): string {
  return `
  const addon = require(${JSON.stringify(binary)})
  const engineOptions = ${JSON.stringify(engineOptions)}
  const tinyConfig = ${JSON.stringify(nativeConfig('expert choice'))}
  const trainerOptions = ${JSON.stringify(trainerOptions)}
  const slowRows = new Int32Array(4 * ${slowLength + 1}).fill(7)
  async function slowTrainer() {
    const model = await addon.createModel(${JSON.stringify(slowConfig)}, { device: 'cpu', dtype: 'float32', threads: 2, nice: 5 })
    await model.init(1)
    const trainer = addon.createTrainer(model, trainerOptions)
    return { model, trainer, step: (signal) => trainer.step(slowRows, null, Int32Array.of(4, ${slowLength}), signal) }
  }
  async function tiny(close) {
    const model = await addon.createModel(tinyConfig, { device: 'cpu', dtype: 'float32', threads: 2, nice: 5 })
    await model.init(1)
    const trainer = addon.createTrainer(model, trainerOptions)
    const step = await trainer.step(new Int32Array(2 * 17).fill(3), null, Int32Array.of(2, 16))
    const engine = addon.createEngine(model, engineOptions, (events) => {
      if (events[events.length - 4] === 2) finished()
    })
    let finished
    const generated = new Promise((resolve) => { finished = resolve })
    generate(engine, 2)
    await generated
    if (close) { await engine.close(); await trainer.dispose(); await model.dispose() }
    return { model, trainer, step }
  }
  function generate(engine, maxTokens) {
    engine.submit(1, Int32Array.of(1, 2), {
      maxTokens, temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0,
      logitBias: { tokens: new Int32Array(0), values: new Float32Array(0) },
      repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0, stop: new Int32Array(0), minTokens: 0,
      routerThreshold: 0.5, maxRecursions: 0, logprobs: false, topLogprobs: 0, promptLogprobs: -1, promptLogprobsFrom: 1, priority: 0,
    })
  }
  ;(async () => {${body}
  })()`
}

export interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
  output: string
}

/** Runs a program in a process of its own. `limit`: a shell command before it, as in `ulimit`. */
export function runProgram(source: string, { nodeOptions = [] as string[], limit = 'true' } = {}): Promise<Ended> {
  return new Promise((done) => {
    const command = [process.execPath, ...nodeOptions, '-e', source]
    const child = spawn('sh', ['-c', `${limit}; exec "$0" "$@"`, ...command])
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (text) => {
        output += String(text)
      })
    }
    child.on('close', (code, signal) => done({ code, signal, output }))
  })
}
