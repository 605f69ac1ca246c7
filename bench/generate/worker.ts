// Our contender in the generation bench: generates through the public API, in a process of its own, over the line
// protocol.
import { Engine, Model, type ModelConfig } from '../../lib/index.js'
import { serveLines } from '../lib/serve_lines.js'
import { type Decoded, decode } from './decode.js'

let model: Model
let engine: Engine

async function build(request: { config: ModelConfig; threads: number; sequences: number }) {
  model = await Model.create(request.config, { device: 'cpu', threads: request.threads, seed: 1 })
  engine = new Engine(model, { maxBatchSize: request.sequences })
  return {}
}

async function save(request: { folder: string }) {
  await model.save(request.folder)
  return {}
}

/** Generates greedily, without stop tokens. `meanDepth` is the mean over the generated tokens. */
async function generate(request: {
  prompts: number[][]
  tokens: number
  routing: { routerThreshold?: number; maxRecursions?: number }
}): Promise<Decoded & { meanDepth: number }> {
  const { prompts, tokens, routing } = request
  let depths = 0
  const stream = async function* (prompt: number[]): AsyncGenerator<number> {
    const options = { maxTokens: tokens, temperature: 0, ignoreEos: true, ...routing }
    for await (const { token, depth } of engine.generate(prompt, options)) {
      depths += depth
      yield token
    }
  }
  const decoded = await decode(prompts.map(stream), tokens)
  return { ...decoded, meanDepth: depths / (prompts.length * tokens) }
}

void serveLines('mixture-of-recursions', { build, save, generate })
