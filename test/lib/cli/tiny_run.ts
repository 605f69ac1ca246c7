// Text and a model so small that `mor train` learns from them in seconds.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

const numbers = ['one', 'two', 'three', 'four', 'five', 'six', 'seven']

/** The number words that `order` chooses, from 0 on; the default counts. */
export function numberWords(count: number, order = (i: number) => i): string {
  return Array.from({ length: count }, (_, i) => numbers[order(i) % numbers.length]!).join(' ')
}

const countedToSeven = numberWords(40_000).replaceAll('seven ', 'seven\n')

/** Writes text.txt and model.json. @param further keys of the model's configuration */
export function writeTinyRun(folder: string, further: object = {}, text = countedToSeven): void {
  writeFileSync(join(folder, 'text.txt'), text)
  const model = {
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: 5,
    num_attention_heads: 2,
    max_position_embeddings: 128,
    num_recursions: 3,
  }
  writeFileSync(join(folder, 'model.json'), JSON.stringify({ ...model, ...further }))
}
