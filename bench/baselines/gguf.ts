// Writes a vanilla checkpoint folder as a GGUF file for llama.cpp, weights unchanged. Where the folder has no tokenizer, the
// vocabulary is made up, and the file serves benches only.
import { existsSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { readConfigFile } from '../../lib/config_file.js'
import { convert } from '../../lib/convert.js'

/**
 * Gives a folder without tokenizer.json a made-up one, because llama.cpp needs one. A file at `path` is replaced.
 * @throws {MorError} as `convert`
 */
export async function writeGguf(folder: string, path: string): Promise<void> {
  const { vocab_size } = await readConfigFile(folder)
  const tokenizer = join(folder, 'tokenizer.json')
  if (!existsSync(tokenizer)) await writeFile(tokenizer, JSON.stringify(syntheticTokenizer(vocab_size)))
  await rm(path, { force: true })
  await convert(folder, { output: path })
}

/** One that llama.cpp loads as SentencePiece's: <unk>, <s>, </s>, the 256 bytes, then made-up pieces. */
function syntheticTokenizer(size: number): object {
  const texts = Array.from({ length: size }, (_, id) => {
    if (id < 3) return ['<unk>', '<s>', '</s>'][id]!
    if (id < 259) return `<0x${(id - 3).toString(16).toUpperCase().padStart(2, '0')}>`
    return `▁t${id}`
  })
  const vocab = Object.fromEntries(texts.map((text, id) => [text, id]))
  const added_tokens = [0, 1, 2].map((id) => ({ id, content: texts[id], special: true }))
  return { added_tokens, model: { type: 'BPE', byte_fallback: true, unk_token: '<unk>', vocab, merges: [] } }
}
