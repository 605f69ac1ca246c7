// Runs in the thread of encode_thread.ts: makes the tokenizer again and encodes the texts that it is sent.
import { parentPort, workerData } from 'node:worker_threads'
import { toMorError } from '../errors.js'
import type { EncodeReply, EncodeRequest } from './encode_thread.js'
import { HuggingFaceTokenizer } from './hugging_face.js'

const port = parentPort!
let made: Promise<HuggingFaceTokenizer> | undefined

port.on('message', async ({ texts, addSpecialTokens }: EncodeRequest) => {
  try {
    made ??= HuggingFaceTokenizer.make(workerData)
    const tokenizer = await made
    const ids = texts.map((text) => tokenizer.encode(text, { addSpecialTokens }))
    const buffers = ids.map(({ buffer }) => buffer as ArrayBuffer)
    send({ ids }, buffers)
  } catch (error) {
    const { code, message } = toMorError(error)
    send({ error: message, code }, [])
  }
})

function send(reply: EncodeReply, moved: ArrayBuffer[]): void {
  port.postMessage(reply, moved)
}
