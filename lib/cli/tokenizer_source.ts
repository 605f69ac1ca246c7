// Finds the tokenizer that an option names.
import { Tokenizer } from '../tokenizer.js'

/** `byte-level`, or a tokenizer.json or its folder. Throws what `Tokenizer.load` throws. */
export async function findTokenizer(source: string): Promise<Tokenizer> {
  return source === Tokenizer.byteLevel().name ? Tokenizer.byteLevel() : Tokenizer.load(source)
}
