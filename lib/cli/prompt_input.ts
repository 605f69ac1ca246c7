// Reads a prompt from standard input.
import { addAbortSignal, type Readable } from 'node:stream'
import { TextDecoder } from 'node:util'
import { MorError, wrapNativeAsync } from '../errors.js'

/**
 * All that `input` holds, less one line end at its end: files and `echo` end with one, and a text is seldom meant to go on
 * after it. Throws `INVALID_ARGUMENT` for bytes that are not UTF-8, `ABORTED`, `IO_ERROR`.
 */
export async function readPrompt(input: Readable, signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = []
  await wrapNativeAsync(async () => {
    for await (const chunk of addAbortSignal(signal, input) as AsyncIterable<Buffer>) chunks.push(chunk)
  }, signal)
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks)).replace(/\r?\n$/, '')
  } catch {
    throw new MorError('INVALID_ARGUMENT', 'the prompt on standard input is not UTF-8: convert it')
  }
}
