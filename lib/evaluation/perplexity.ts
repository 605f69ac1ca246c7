// Loss of documents, read through a window that slides over their tokens.
import { stat } from 'node:fs/promises'
import { STANDARD_INPUT } from '../dataset/file_kind.js'
import { type ReadOptions, readSegments } from '../dataset/source.js'
import { MorError, throwIfAborted } from '../errors.js'
import type { Model } from '../model.js'
import { encodeDocument } from './encode.js'
import type { Evaluated } from './evaluated.js'
import { expOf, type Metric, ratioOf, scaled } from './metrics.js'
import { atPlace } from './place.js'
import type { PerplexityTask } from './tasks.js'

export interface PerplexityResult {
  /** Documents. */
  examples: number
  tokens: number
  metrics: { loss: Metric; perplexity: Metric; bitsPerByte: Metric }
}

/** Sums over the scored tokens of a document. */
interface DocumentSums {
  /** File and document, for messages. */
  where: string
  nats: number
  tokens: number
  bytes: number
}

interface Window {
  /** One more than the window: the last is only predicted. */
  tokens: Int32Array
  /** Targets that no window before has scored: the last ones. */
  scored: number
  sums: DocumentSums
}

/** Tokens of a batch of windows, about. */
const BATCH_TOKENS = 4096

/** Tokens of a window, and those that it moves on. */
export interface WindowShape {
  length: number
  stride: number
}

/**
 * The windows of a task, and the beginning of each of its files read, so that what is wrong with them is found before anything is computed.
 * @throws {MorError} CONTEXT_OVERFLOW for windows longer than the context of the model; INVALID_ARGUMENT, IO_ERROR as readSegments
 */
export async function checkTexts(model: Model, task: PerplexityTask): Promise<WindowShape> {
  const context = model.config.max_position_embeddings
  const length = task.length ?? context
  if (length > context) {
    throw new MorError(
      'CONTEXT_OVERFLOW',
      `task ${task.name}: length is ${length}; the context of the model holds ${context}: give at most that, or leave length out`,
    )
  }
  const stride = task.stride ?? Math.ceil(length / 2)
  // A stride that is longer than a length of the task has been refused by then.
  if (stride > length) {
    const what = `stride is ${stride}, and length ${length}, which is the context of the model`
    throw new MorError('INVALID_ARGUMENT', `task ${task.name}: ${what}; give a stride of at most that`)
  }
  for (const path of filesOf(task)) {
    const entry = await stat(path).catch(() => null)
    // What is read from a pipe or standard input is gone.
    if (path === STANDARD_INPUT || entry?.isFIFO() || entry?.isCharacterDevice()) continue
    for await (const _ of readSegments([path], readOptions(task))) break
  }
  return { length, stride }
}

/**
 * Each token is scored once, in the first window that predicts it. The last window of a document begins earlier, so that it is as
 * long as the others.
 * @param onProgress is given the documents that have been read and the tokens that have been scored so far
 */
export async function measurePerplexity(
  { model, tokenizer, routing }: Evaluated,
  task: PerplexityTask,
  { length, stride }: WindowShape,
  { signal, onProgress }: { signal: AbortSignal | undefined; onProgress(documents: number, tokens: number): void },
): Promise<PerplexityResult> {
  const documents: DocumentSums[] = []
  let batch: Window[] = []
  let scored = 0
  const score = async (windows: readonly Window[]) => {
    await scoreWindows(model, windows, { ...routing, ...(signal && { signal }) })
    for (const window of windows) scored += window.scored
    onProgress(documents.length, scored)
  }
  // The model computes one batch while the next is read and encoded.
  let computing = Promise.resolve()
  const flush = async () => {
    const ready = batch
    batch = []
    await computing
    computing = score(ready)
    computing.catch(() => {}) // It is awaited later.
  }
  try {
    for await (const { text, where } of documentsOf(task)) {
      throwIfAborted(signal, `task ${task.name}`)
      const tokens = await atPlace(where, () => encodeDocument(tokenizer, text, signal))
      const sums = { where, nats: 0, tokens: 0, bytes: Buffer.byteLength(text) }
      documents.push(sums)
      for (const window of windowsOf(tokens, length, stride)) {
        const columns = window.tokens.length
        if (batch.length > 0 && (batch[0]!.tokens.length !== columns || (batch.length + 1) * columns > BATCH_TOKENS))
          await flush()
        batch.push({ ...window, sums })
      }
    }
    if (batch.length > 0) await flush()
  } finally {
    await computing
  }
  const nats = documents.map((sums) => sums.nats)
  const tokens = documents.map((sums) => sums.tokens)
  const total = tokens.reduce((sum, count) => sum + count, 0)
  if (total === 0)
    throw new MorError('INVALID_ARGUMENT', `task ${task.name}: the text has too few tokens to predict one`)
  const loss = ratioOf(nats, tokens)
  const perByte = ratioOf(
    nats,
    documents.map((sums) => sums.bytes),
  )
  return {
    examples: documents.length,
    tokens: total,
    metrics: { loss, perplexity: expOf(loss), bitsPerByte: scaled(perByte, 1 / Math.LN2) },
  }
}

function filesOf({ data }: PerplexityTask): readonly string[] {
  return typeof data === 'string' ? [data] : data
}

function readOptions({ textField = 'text' }: PerplexityTask): ReadOptions {
  return { textField, format: null, signal: undefined }
}

async function* documentsOf(task: PerplexityTask): AsyncGenerator<{ text: string; where: string }> {
  const files = filesOf(task)
  const { limit = Number.POSITIVE_INFINITY } = task
  const inFile = files.map(() => 0)
  let documents = 0
  let parts: string[] = []
  for await (const { text, endsDocument, after } of readSegments(files, readOptions(task))) {
    parts.push(text)
    if (!endsDocument) continue
    yield { text: parts.join(''), where: `${files[after.file]}, document ${++inFile[after.file]!}` }
    parts = []
    if (++documents >= limit) return
  }
}

/** The windows of a document, each of at most `length` tokens and the next one. */
export function* windowsOf(tokens: Int32Array, length: number, stride: number): Generator<Omit<Window, 'sums'>> {
  const targets = tokens.length - 1
  const columns = Math.min(length, targets)
  for (let scored = 0, end = columns; scored < targets; end = Math.min(end + stride, targets)) {
    yield { tokens: tokens.subarray(end - columns, end + 1), scored: end - scored }
    scored = end
  }
}

async function scoreWindows(
  model: Model,
  windows: readonly Window[],
  options: Parameters<Model['logprobs']>[2],
): Promise<void> {
  const rows = windows.map(({ tokens }) => tokens.subarray(0, -1))
  const targets = windows.map(({ tokens, scored }) => tokens.slice(1).fill(-1, 0, tokens.length - 1 - scored))
  const { logprobs, shape } = await model.logprobs(rows, targets, options)
  windows.forEach(({ sums, scored }, row) => {
    const end = (row + 1) * shape[1]
    for (let i = end - scored; i < end; i++) sums.nats -= logprobs[i]!
    sums.tokens += scored
    if (!Number.isFinite(sums.nats)) {
      throw new MorError('NON_FINITE', `${sums.where}: the loss is ${sums.nats}; the model computes no finite one`)
    }
  })
}
