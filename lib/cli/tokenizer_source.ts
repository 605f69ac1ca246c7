// Finds the tokenizer that an option names, or that a checkpoint has.
import { checkIsCheckpoint } from '../config_file.js'
import { MorError } from '../errors.js'
import { exists } from '../exists.js'
import { isGguf } from '../gguf/reader.js'
import { Tokenizer } from '../tokenizer.js'

/** `byte-level`, or a tokenizer.json or its folder. Throws what `Tokenizer.load` throws. */
export async function findTokenizer(source: string): Promise<Tokenizer> {
  return source === Tokenizer.byteLevel().name ? Tokenizer.byteLevel() : Tokenizer.load(source)
}

/**
 * What the option names, or else the checkpoint's own. Throws what `Tokenizer.load` throws, CHECKPOINT_MISSING where there is
 * nothing, and for what is neither a checkpoint nor a GGUF file what `checkIsCheckpoint` throws. It does not read the configuration:
 * who loads the model does, and would warn a second time.
 */
export async function findCheckpointTokenizer(folder: string, source: string | undefined): Promise<Tokenizer> {
  if (!(await exists(folder))) {
    throw new MorError('CHECKPOINT_MISSING', `there is no checkpoint at ${folder}: no such file or folder`)
  }
  if (!(await isGguf(folder))) await checkIsCheckpoint(folder)
  return findTokenizer(source ?? folder)
}
