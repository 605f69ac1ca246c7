// Finds the tokenizer that an option names.
// Must not know: the commands.
import { Tokenizer } from '../tokenizer.js'

/** `byte-level`, or a tokenizer.json or its folder. Errors as `Tokenizer.load`'s. */
export async function findTokenizer(source: string): Promise<Tokenizer> {
  return source === Tokenizer.byteLevel().name ? Tokenizer.byteLevel() : Tokenizer.load(source)
}
