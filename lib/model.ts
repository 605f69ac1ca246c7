// The public Model: create or load one, run it, save it, give its memory back.
import { Checker, checkPath, type JsonObject } from './check.js'
import { loadWeights, saveWeights } from './checkpoint.js'
import { type ModelConfig, type ResolvedConfig, resolveConfig } from './config.js'
import { toNativeConfig } from './config_native.js'
import { type DeviceOption, selectDevice } from './devices.js'
import { throwIfAborted, wrapNative, wrapNativeAsync } from './errors.js'
import {
  type ForwardOptions,
  type ForwardResult,
  forward,
  type HiddenStatesOptions,
  type HiddenStatesResult,
  hiddenStates,
  type LogprobsResult,
  logprobs,
  type PassOptions,
} from './forward.js'
import type { TextSource } from './model_text.js'
import type { DType, MemoryUse, NativeModel } from './native/model.js'
import { loadNative } from './native_loader.js'
import { openCheckpoint } from './open_checkpoint.js'
import type { SavedTokenizer } from './tokenizer/files.js'
import type { TokenizerFile } from './tokenizer/interface.js'
import { readTokenizer } from './tokenizer/option.js'
import { checkVocabulary } from './tokenizer/vocabulary.js'
import type { Tokenizer } from './tokenizer.js'

export interface LoadOptions {
  /** Default 'auto'. A device that is asked for and cannot be used is an error, never a fallback. */
  device?: DeviceOption
  /** Precision of weights and compute. Default 'bfloat16' (float32 accumulation); 'float32' is the exact one. */
  dtype?: DType
  /** CPU threads; 0 (default): as many as the processors of the process, but no more than its control group grants. */
  threads?: number
  /**
   * Nice value of the threads that compute, from 0 to 19, never less than that of the process: a higher one gives the event loop
   * and other processes the cores sooner. The models of a process share its threads, which have the value of the model that
   * first needed them. Default 5.
   */
  nice?: number
  /**
   * The tokenizer of the model's text. It is saved with the weights, so that commands and servers find it, and it gives begin
   * and end tokens where the configuration of a new model has none. Default: that of the checkpoint; none for a new model.
   */
  tokenizer?: Tokenizer
  signal?: AbortSignal
}

export interface CreateOptions extends LoadOptions {
  /** Seed of the initial weights. Default 0. */
  seed?: number
}

const loadKeys = ['device', 'dtype', 'threads', 'nice', 'tokenizer', 'signal']

interface ModelParts {
  config: ResolvedConfig
  generation: JsonObject
  tokenizer: SavedTokenizer | null
  text: TextSource
}

/**
 * A model on one device. Calls run one after another on the model's own thread, in the order in which they are made, and
 * never block the event loop; those of a Trainer of this model are among them. After `dispose` every call rejects with
 * DISPOSED.
 */
export class Model {
  /** Complete: with every default filled in. */
  readonly config: ResolvedConfig
  /** Id of the device, as in `devices()`. */
  readonly device: string
  readonly dtype: DType
  /** @internal */
  readonly native: NativeModel
  /** @internal What generation_config.json said, and says again where the model is saved. */
  readonly generation: JsonObject
  /** @internal Where engines find the tokenizer and the chat template. */
  readonly text: TextSource
  readonly #tokenizer: SavedTokenizer | null
  #disposing: Promise<void> | undefined

  private constructor(native: NativeModel, parts: ModelParts, dtype: DType, device: string) {
    this.native = native
    this.config = parts.config
    this.generation = parts.generation
    this.text = parts.text
    this.#tokenizer = parts.tokenizer
    this.dtype = dtype
    this.device = device
  }

  /**
   * A model with freshly initialised weights.
   * @throws {MorError} INVALID_CONFIG, INVALID_ARGUMENT, DEVICE_UNAVAILABLE, OUT_OF_MEMORY, ABORTED, and what `devices()` throws
   */
  static async create(config: ModelConfig, options: CreateOptions = {}): Promise<Model> {
    const check = Checker.of(options, 'Model.create')
    check.onlyKeys([...loadKeys, 'seed'])
    const seed = check.integer('seed', { min: 0, max: Number.MAX_SAFE_INTEGER, fallback: 0 })
    const tokenizer = readTokenizer(check)
    const text = { folder: null, tokenizer, chatTemplate: null }
    const parts = { config: configFor(tokenizer, config), generation: {}, tokenizer, text }
    const build = resolveBuild(check)
    return Model.#build(parts, build, (native) => native.init(seed, build.signal))
  }

  /**
   * Loads a checkpoint: a folder, of this package or of Hugging Face, or a GGUF file (docs/checkpoint-format.md).
   * @throws {MorError} as `create`, and CHECKPOINT_MISSING, CHECKPOINT_INVALID, IO_ERROR
   */
  static async load(folder: string, options: LoadOptions = {}): Promise<Model> {
    const check = Checker.of(options, 'Model.load')
    check.onlyKeys(loadKeys)
    checkPath(folder, 'Model.load: the checkpoint')
    const build = resolveBuild(check)
    const given = readTokenizer(check)
    throwIfAborted(build.signal, `loading ${folder}`)
    const { files, ...opened } = await openCheckpoint(folder)
    const parts = given === null ? opened : withTokenizer(opened, given)
    return Model.#build(parts, build, (native) => loadWeights(native, parts.config, files, folder, build.signal))
  }

  static async #build(
    parts: ModelParts,
    { dtype, threads, nice, device: wanted, signal }: BuildOptions,
    fill: (native: NativeModel) => Promise<void>,
  ): Promise<Model> {
    const addon = loadNative()
    const device = selectDevice(wanted, addon)
    throwIfAborted(signal, 'making the model')
    const native = await wrapNativeAsync(() =>
      addon.createModel(toNativeConfig(parts.config), { device, dtype, threads, nice }),
    )
    try {
      await wrapNativeAsync(() => fill(native), signal)
    } catch (error) {
      native.dispose()
      throw error
    }
    return new Model(native, parts, dtype, device)
  }

  /**
   * Saves config.json, generation_config.json and model.safetensors, in the model's own precision, into `folder`: the weights as
   * they are after the calls made before this one; and the files of the tokenizer, if the model was given one or loaded from
   * beside one. Files are written aside and renamed, so that what was there stays whole if anything fails. Weights in shards and
   * files of another tokenizer that were there are removed; other files of the folder are left alone.
   * @throws {MorError} IO_ERROR (a full disk, say), DISPOSED
   */
  async save(folder: string): Promise<void> {
    checkPath(folder, 'save: the folder')
    await wrapNativeAsync(() => saveWeights(this, folder))
  }

  /** @internal What is saved of the tokenizer. */
  tokenizerFilesFor(folder: string): TokenizerFile[] {
    return this.#tokenizer?.filesFor(folder) ?? []
  }

  /**
   * Logits of every position of a batch, or of those that `positions` chooses. Only these cross from the device and take memory.
   * @param tokens rows of token ids, all of one length, at most max_position_embeddings.
   * @throws {MorError} TOKEN_OUT_OF_RANGE, CONTEXT_OVERFLOW, INVALID_ARGUMENT, ABORTED, DISPOSED
   */
  async forward(tokens: readonly ArrayLike<number>[], options: ForwardOptions = {}): Promise<ForwardResult> {
    return forward(this.native, this.config, tokens, options)
  }

  /**
   * The log-probability of a token after each position of a batch; logits are never stored whole. The perplexity of a text is
   * exp of minus the mean of the log-probabilities of its tokens.
   * @param tokens as `forward`.
   * @param targets the token whose log-probability is wanted after each token, rows like those of `tokens`; -1: none.
   * @throws {MorError} as `forward`
   */
  async logprobs(
    tokens: readonly ArrayLike<number>[],
    targets: readonly ArrayLike<number>[],
    options: PassOptions = {},
  ): Promise<LogprobsResult> {
    return logprobs(this.native, this.config, tokens, targets, options)
  }

  /**
   * The residual stream before effective layers (docs/model.md section 2) of a batch. A token has the state that the next layer
   * it runs reads: it keeps its state where it runs no layer, and leaves the block with its gated one. So the state before layer
   * 0 is the embedding, and that before layer num_hidden_layers goes into the last norm.
   * @param tokens as `forward`.
   * @throws {MorError} as `forward`
   */
  async hiddenStates(
    tokens: readonly ArrayLike<number>[],
    options: HiddenStatesOptions = {},
  ): Promise<HiddenStatesResult> {
    return hiddenStates(this.native, this.config, tokens, options)
  }

  /** Bytes in use, by purpose. */
  memory(): MemoryUse {
    return wrapNative(() => this.native.memory())
  }

  /** Gives the memory back; calls under way reject with DISPOSED. Calling it again waits for the same end. */
  dispose(): Promise<void> {
    this.#disposing ??= wrapNativeAsync(() => this.native.dispose())
    return this.#disposing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }
}

function withTokenizer(parts: ModelParts, tokenizer: Tokenizer): ModelParts {
  checkVocabulary(tokenizer, parts.config.vocab_size, 'Model.load')
  return { ...parts, tokenizer, text: { ...parts.text, tokenizer } }
}

type BuildOptions = ReturnType<typeof resolveBuild>

/** Read at once: a caller may change its options while a checkpoint is read. */
function resolveBuild(check: Checker) {
  return {
    dtype: check.choice('dtype', ['bfloat16', 'float32'], 'bfloat16'),
    threads: check.integer('threads', { min: 0, max: 4096, fallback: 0 }),
    nice: check.integer('nice', { min: 0, max: 19, fallback: 5 }),
    device: check.object.device ?? 'auto',
    signal: check.signal(),
  }
}

/** The complete `config`, with the begin and end tokens of the tokenizer where it does not speak of its own. */
function configFor(tokenizer: Tokenizer | null, config: ModelConfig): ResolvedConfig {
  const resolved = resolveConfig(config)
  if (tokenizer === null) return resolved
  checkVocabulary(tokenizer, resolved.vocab_size, 'Model.create', 'INVALID_CONFIG')
  return resolveConfig({ bos_token_id: tokenizer.bosTokenId, eos_token_id: tokenizer.eosTokenId, ...config })
}
