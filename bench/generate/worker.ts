// Our contender in the generation bench: generates through the public API, in a process of its own, over the line
// protocol.
import { Engine, Model, type ModelConfig } from '../../lib/index.js'
import { serveLines } from '../lib/serve_lines.js'
import { type Decoded, decode } from './decode.js'

const jobs = new Map<string, { model: Model; engine: Engine }>()

async function build(request: { name: string; config: ModelConfig; threads: number; sequences: number }) {
  const model = await Model.create(request.config, { device: 'cpu', threads: request.threads, seed: 1 })
  jobs.set(request.name, { model, engine: new Engine(model, { maxBatchSize: request.sequences }) })
  return {}
}

async function save(request: { name: string; folder: string }) {
  await jobs.get(request.name)!.model.save(request.folder)
  return {}
}

/** Generates greedily, without stop tokens. `meanDepth` is the mean over the generated tokens. */
async function generate(request: {
  name: string
  prompts: number[][]
  tokens: number
  routerThreshold?: number
  maxRecursions?: number
}): Promise<Decoded & { meanDepth: number }> {
  const { engine } = jobs.get(request.name)!
  const { routerThreshold, maxRecursions } = request
  const routing = {
    ...(routerThreshold === undefined ? {} : { routerThreshold }),
    ...(maxRecursions === undefined ? {} : { maxRecursions }),
  }
  let depths = 0
  const stream = async function* (prompt: number[]): AsyncGenerator<number> {
    const options = { maxTokens: request.tokens, temperature: 0, ignoreEos: true, ...routing }
    for await (const { token, depth } of engine.generate(prompt, options)) {
      depths += depth
      yield token
    }
  }
  const decoded = await decode(request.prompts.map(stream), request.tokens)
  return { ...decoded, meanDepth: depths / (request.prompts.length * request.tokens) }
}

void serveLines('mixture-of-recursions', { build, save, generate })
