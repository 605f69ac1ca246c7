// Our contender in the serve bench: a process that serves one model through the public API, over the line protocol.
import type { Model, ModelConfig } from '../../lib/index.js'
import { serveLines } from '../lib/serve_lines.js'
import { buildModel, type ServeAnswer, type ServeOptions, serveRequests } from './serve_requests.js'

let model: Model

async function build({ config, threads }: { config: ModelConfig; threads: number }) {
  model = await buildModel(config, { device: 'cpu', threads, seed: 1 })
  return {}
}

async function save(request: { folder: string }) {
  await model.save(request.folder)
  return {}
}

function serve(request: ServeOptions): Promise<ServeAnswer> {
  return serveRequests(model, request)
}

void serveLines('mixture-of-recursions', { build, save, serve })
