// The contender of the HTTP bench: a process that serves chat with one model, and tells what the engine itself took.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ChatTemplate, Engine, type Generation, Model, Tokenizer } from '../../lib/index.js'
import { createServer, type ModelServer, type ServedEngine } from '../../lib/server/index.js'
import { withEventLoopDelay } from '../lib/event_loop.js'
import { serveLines } from '../lib/serve_lines.js'
import { temporaryFolder } from '../lib/temporary_folder.js'
import { config, firstText, modelName, template } from './shape.js'

export interface Measured {
  /** Milliseconds from `submit` to the first token, by the seed of the request. */
  engineFirstToken: Record<number, number>
  /** Milliseconds from the arrival of the request to the writing of its first text, by the seed of the request. */
  serverFirstToken: Record<number, number>
  /** 99th percentile of the event loop's lateness, in milliseconds. */
  eventLoopDelay: number
}

const tokenizer = Tokenizer.byteLevel()
/** Of the bytes that are no ASCII, which wait for the rest of their character: so every token is a text, and is sent. */
const logitBias = Object.fromEntries(Array.from({ length: 128 }, (_, i) => [128 + i, -100]))
let generations = new Map<number, Generation>()
const written = new Map<number, number>()
let app: ModelServer | null = null
let end: (() => void) | null = null
let measured: Promise<Measured> | null = null

async function listen({ threads }: { threads: number }): Promise<{ url: string }> {
  const engine = new Engine(await Model.create(config, { device: 'cpu', threads, seed: 1, tokenizer }))
  const watched: ServedEngine = {
    model: engine.model,
    stats: () => engine.stats(),
    generate: (prompt, options) => {
      const generation = engine.generate(prompt, { ...options, logitBias })
      generations.set(options.seed!, generation)
      return generation
    },
  }
  app = createServer({ engine: watched, tokenizer, chatTemplate: await readTemplate(), modelName })
  watchWrites(app)
  return { url: await app.listen({ host: '127.0.0.1', port: 0 }) }
}

/** Notes when the first text of each stream is written. */
function watchWrites(server: ModelServer): void {
  const arrivals = new WeakMap<object, number>()
  server.addHook('onRequest', async (request) => {
    arrivals.set(request, performance.now())
  })
  server.addHook('preHandler', async (request, { raw }) => {
    const { seed } = request.body as { seed: number }
    const write = raw.write.bind(raw)
    raw.write = (...chunk: unknown[]) => {
      if (!written.has(seed) && firstText.test(String(chunk[0])))
        written.set(seed, performance.now() - arrivals.get(request)!)
      return write(...(chunk as Parameters<typeof write>))
    }
  })
}

async function readTemplate(): Promise<ChatTemplate | null> {
  using folder = temporaryFolder('mor-bench-')
  await writeFile(join(folder.path, 'chat_template.jinja'), template)
  return await ChatTemplate.load(folder.path)
}

function begin(): object {
  generations = new Map()
  written.clear()
  const ended = new Promise<void>((resolve) => {
    end = resolve
  })
  measured = withEventLoopDelay(() => ended).then(({ eventLoopDelay }) => {
    const entries = Array.from(generations, ([seed, { timing }]) => [seed, timing.firstToken! - timing.submitted!])
    return {
      engineFirstToken: Object.fromEntries(entries),
      serverFirstToken: Object.fromEntries(written),
      eventLoopDelay,
    }
  })
  return {}
}

async function finish(): Promise<Measured> {
  end!()
  return await measured!
}

void serveLines('mixture-of-recursions over HTTP', { listen, begin, finish }).then(() => app?.close())
