// Chat templates from their source.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ChatTemplate } from '../../../lib/chat/chat_template.js'

/** With the special tokens `<s>` and `</s>`. */
export async function templateOf(source: string): Promise<ChatTemplate> {
  const folder = mkdtempSync(join(tmpdir(), 'mor-template-'))
  try {
    writeFileSync(join(folder, 'chat_template.jinja'), source)
    writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify({ bos_token: '<s>', eos_token: '</s>' }))
    return (await ChatTemplate.load(folder))!
  } finally {
    rmSync(folder, { recursive: true })
  }
}
