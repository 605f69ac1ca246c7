// The public Tokenizer: its interface, and the two ways to get one, the built-in one for bytes or one from a tokenizer.json.
import { byteLevelTokenizer } from './tokenizer/byte_level.js'
import type * as types from './tokenizer/interface.js'
import { loadTokenizer } from './tokenizer/load.js'

export type Detokenizer = types.Detokenizer
export type Tokenizer = types.Tokenizer

export const Tokenizer = {
  /**
   * The built-in tokenizer: id = byte of the UTF-8 text (0..255), and 256 = end of text; `vocabSize` 257. Ids are not
   * padded: a model that wants a rounder vocabulary sets its own larger `vocab_size`.
   */
  byteLevel: (): Tokenizer => byteLevelTokenizer(),
  /**
   * Loads a Hugging Face `tokenizer.json`, given the file or the folder that holds it. Begin and end ids come from
   * `tokenizer_config.json` beside it, else from `generation_config.json` or `config.json`, else from the usual token names;
   * `add_bos_token` and `add_eos_token` of `tokenizer_config.json` count.
   * Throws `CHECKPOINT_MISSING` where there is no file and `CHECKPOINT_INVALID` where it is not a tokenizer.
   */
  load: (folderOrFile: string): Promise<Tokenizer> => loadTokenizer(folderOrFile),
}
