// Recognises files that are often given in place of another, so that an error can say what to give instead.
import { open } from 'node:fs/promises'

/** Bytes from the start of a file that show its format. */
const HEAD_BYTES = 64
/** A longer header of a safetensors file is not allowed. */
const MAX_HEADER_BYTES = 100_000_000n

/**
 * What a file is and what to do about it, as the end of a sentence that begins with its path. Null for a format that is not
 * known here, and where the file cannot be read.
 */
export async function describeFileFormat(path: string): Promise<string | null> {
  const file = await open(path, 'r').catch(() => null)
  if (file === null) return null
  try {
    const head = Buffer.alloc(HEAD_BYTES)
    const { bytesRead } = await file.read(head, 0, HEAD_BYTES, 0)
    return describeFormat(head.subarray(0, bytesRead))
  } catch {
    return null
  } finally {
    await file.close()
  }
}

/** What a file is that begins with `head`, as `describeFileFormat` says it. */
function describeFormat(head: Buffer): string | null {
  const text = head.toString('latin1')
  if (text.startsWith('GGUF')) {
    return 'is a GGUF file, which is not read: give the Hugging Face folder that it was made from'
  }
  if (text[8] === '{' && head.readBigUInt64LE() <= MAX_HEADER_BYTES) {
    return 'is a safetensors file: give the folder that holds it and its config.json'
  }
  if (text.startsWith('PK\x03\x04') || text.startsWith('\x80')) {
    return 'is a PyTorch file, which is not read: save the model as safetensors first'
  }
  if (text.startsWith('version https://git-lfs')) {
    return 'is a pointer of Git LFS, not the file itself: run git lfs pull'
  }
  if (/^\s*<(!doctype|html)/i.test(text)) return 'is a web page: download the file itself'
  if (text.startsWith('\xff\xfe') || text.startsWith('\xfe\xff')) return 'is text in UTF-16: save it as UTF-8'
  return null
}
