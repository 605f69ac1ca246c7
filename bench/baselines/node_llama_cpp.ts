// The rival of the generation and serve benches: greedy decoding by node-llama-cpp on the CPU, without speculation and without
// stop tokens. Its commands over the line protocol:
//   load     { path, threads, sequences, contextSize }
//   generate { prompts: number[][], tokens }  -> { tokens: number[][], seconds, eventLoopDelay }
//   serve    { requests, concurrency }        -> Load (serve/load.ts); at most `concurrency` requests at a time
// The `seconds` of `generate` run from the moment when every sequence has its first token until all are done: decoding alone.
import { decode } from '../generate/decode.js'
import { serveLines } from '../lib/serve_lines.js'
import { type Load, putLoad } from '../serve/load.js'
import type { ServeRequest } from '../serve/workload.js'
import { installNodeLlamaCpp } from './rivals.js'

// The part of the library's interface that is used; its own types are there only once it is installed.
interface Sequence {
  clearHistory(): Promise<void>
  evaluate(
    tokens: number[],
    options: { temperature: number; yieldEogToken: boolean },
  ): AsyncGenerator<number, void, void>
}
interface Library {
  getLlama(options: {
    gpu: false
    build: 'never'
    skipDownload: boolean
    maxThreads: number
    logLevel: 'error'
  }): Promise<{
    loadModel(options: { modelPath: string; gpuLayers: number; useMmap: boolean }): Promise<{
      createContext(options: {
        sequences: number
        contextSize: number
        threads: { ideal: number; min: number }
      }): Promise<{ getSequence(): Sequence }>
    }>
  }>
}

let sequences: Sequence[] = []

async function load(request: { path: string; threads: number; sequences: number; contextSize: number }) {
  const { getLlama } = (await import(installNodeLlamaCpp())) as Library
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    maxThreads: request.threads,
    logLevel: 'error',
  })
  const model = await llama.loadModel({ modelPath: request.path, gpuLayers: 0, useMmap: false })
  const context = await model.createContext({
    sequences: request.sequences,
    contextSize: request.contextSize,
    threads: { ideal: request.threads, min: request.threads },
  })
  sequences = Array.from({ length: request.sequences }, () => context.getSequence())
  return {}
}

function evaluate(sequence: Sequence, prompt: number[]): AsyncGenerator<number, void, void> {
  return sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })
}

async function generate(request: { prompts: number[][]; tokens: number }) {
  const used = sequences.slice(0, request.prompts.length)
  for (const sequence of used) await sequence.clearHistory()
  return decode(
    used.map((sequence, i) => evaluate(sequence, request.prompts[i]!)),
    request.tokens,
  )
}

function serve(request: { requests: ServeRequest[]; concurrency: number }): Promise<Load> {
  const free = sequences.slice(0, request.concurrency)
  const waiting: ((sequence: Sequence) => void)[] = []
  const take = (): Promise<Sequence> => {
    const sequence = free.pop()
    return sequence === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(sequence)
  }
  const giveBack = (sequence: Sequence): void => {
    const next = waiting.shift()
    if (next === undefined) free.push(sequence)
    else next(sequence)
  }
  return putLoad(request.requests, async function* ({ prompt }) {
    const sequence = await take()
    try {
      await sequence.clearHistory()
      yield* evaluate(sequence, prompt)
    } finally {
      giveBack(sequence)
    }
  })
}

void serveLines('node-llama-cpp', { load, generate, serve })
