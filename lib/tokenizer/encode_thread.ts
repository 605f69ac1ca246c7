// A thread that encodes long texts, so that they do not block the event loop. It is started when the first text comes.
import type { Worker } from 'node:worker_threads'
import { onAbort } from '../abort_calls.js'
import { type ErrorCode, MorError, toMorError } from '../errors.js'
import { startWorker } from '../worker.js'

/** What the thread is sent. It encodes one request at a time. */
export interface EncodeRequest {
  texts: readonly string[]
  addSpecialTokens: boolean
}

/** Its answer: the ids of each text, or an error. */
export type EncodeReply = { ids: Int32Array[] } | { error: string; code: ErrorCode }

interface Job {
  request: EncodeRequest
  /** Ends the job, once. */
  resolve(ids: Int32Array[]): void
  reject(error: MorError): void
}

/** A thread without work for this long is ended; the next text starts another one. */
const IDLE_MS = 60_000

export class EncodeThread {
  readonly #source: object
  readonly #idleMs: number
  /** Whenever there are jobs, the thread works on the first of them. */
  readonly #jobs: Job[] = []
  #worker: Worker | null = null
  #idle: NodeJS.Timeout | undefined

  /** @param source what encode_worker.ts makes the tokenizer of; it is copied to the thread */
  constructor(source: object, idleMs = IDLE_MS) {
    this.#source = source
    this.#idleMs = idleMs
  }

  /** The calls of `encode` that have not ended. */
  get jobs(): number {
    return this.#jobs.length
  }

  /**
   * The ids of each text, after those of earlier calls. The process does not end before; an idle thread does not keep it alive.
   * @param signal also interrupts the encoding of a text that has begun
   * @throws {MorError} ABORTED, OUT_OF_MEMORY, INTERNAL
   */
  encode(request: EncodeRequest, signal?: AbortSignal): Promise<Int32Array[]> {
    return new Promise((resolve, reject) => {
      const abort = () => {
        const error = new MorError('ABORTED', 'encoding the text was aborted', { cause: signal!.reason })
        this.#cancel(job, error)
      }
      const job: Job = {
        request,
        resolve: (ids) => {
          ended()
          resolve(ids)
        },
        reject: (error) => {
          ended()
          reject(error)
        },
      }
      const ended = signal === undefined ? () => {} : onAbort(signal, abort)
      this.#jobs.push(job)
      if (this.#jobs.length === 1) this.#startFirst()
    })
  }

  #startFirst(): void {
    clearTimeout(this.#idle)
    const job = this.#jobs[0]
    if (job === undefined) {
      this.#worker?.unref()
      this.#idle = setTimeout(() => this.#end(), this.#idleMs).unref()
      return
    }
    try {
      this.#worker ??= this.#start()
      this.#worker.ref()
      this.#worker.postMessage(job.request)
    } catch (error) {
      this.#finishFirst((first) => first.reject(toMorError(error)))
    }
  }

  #finishFirst(settle: (job: Job) => void): void {
    settle(this.#jobs.shift()!)
    this.#startFirst()
  }

  #cancel(job: Job, error: MorError): void {
    const place = this.#jobs.indexOf(job)
    if (place > 0) {
      this.#jobs.splice(place, 1)
      job.reject(error)
      return
    }
    // JavaScript cannot be interrupted in another way than by ending its thread.
    this.#end()
    this.#finishFirst((first) => first.reject(error))
  }

  #start(): Worker {
    const worker = startWorker('tokenizer/encode_worker', { workerData: this.#source })
    worker.on('message', (reply: EncodeReply) => {
      if (worker !== this.#worker) return
      this.#finishFirst((job) => {
        if ('ids' in reply) job.resolve(reply.ids)
        else job.reject(new MorError(reply.code, reply.error))
      })
    })
    const lost = (error: MorError) => {
      if (worker !== this.#worker) return
      this.#worker = null
      if (this.#jobs.length > 0) this.#finishFirst((job) => job.reject(error))
    }
    worker.on('error', (error: NodeJS.ErrnoException) =>
      lost(
        error.code === 'ERR_WORKER_OUT_OF_MEMORY'
          ? new MorError('OUT_OF_MEMORY', 'there is not enough memory to encode the text: give a shorter one', {
              cause: error,
            })
          : toMorError(error),
      ),
    )
    worker.on('exit', (code) => lost(new MorError('INTERNAL', `the thread of the tokenizer ended with code ${code}`)))
    return worker
  }

  #end(): void {
    const worker = this.#worker
    this.#worker = null
    worker?.terminate()
  }
}
