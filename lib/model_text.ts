// The tokenizer and the chat template of a model, which are read when they are first needed.
import { ChatTemplate } from './chat/chat_template.js'
import type { ChatMessage } from './chat/messages.js'
import type { RenderOptions } from './chat/render_options.js'
import { MorError } from './errors.js'
import { startOf } from './tokenizer/start.js'
import { Tokenizer } from './tokenizer.js'

export interface TextSource {
  /** The folder, or the GGUF file, that the model was loaded from. */
  folder: string | null
  /** Counts before that of the folder. */
  tokenizer: Tokenizer | null
  /** Counts before that of the folder. */
  chatTemplate: ChatTemplate | null
}

/** A text, or a conversation, whose prompt the chat template makes. */
export type PromptText = string | { messages: readonly ChatMessage[]; options: RenderOptions }

export class ModelText {
  readonly source: TextSource
  #tokenizer: Promise<Tokenizer> | null = null
  #chatTemplate: Promise<ChatTemplate> | null = null

  constructor(source: TextSource) {
    this.source = source
  }

  /** @throws {MorError} INVALID_ARGUMENT where there is none, and what Tokenizer.load throws */
  tokenizer(): Promise<Tokenizer> {
    this.#tokenizer ??= this.#loadTokenizer().catch((error) => {
      this.#tokenizer = null
      throw error
    })
    return this.#tokenizer
  }

  /** @throws {MorError} INVALID_ARGUMENT where there is none, and what ChatTemplate.load throws */
  chatTemplate(): Promise<ChatTemplate> {
    this.#chatTemplate ??= this.#loadChatTemplate().catch((error) => {
      this.#chatTemplate = null
      throw error
    })
    return this.#chatTemplate
  }

  /** The tokens of a prompt: those of a text and what the tokenizer puts around it, or of a conversation. */
  async encode(prompt: PromptText, signal: AbortSignal): Promise<Int32Array> {
    const tokenizer = await this.tokenizer()
    const isText = typeof prompt === 'string'
    const text = isText ? prompt : (await this.chatTemplate()).render(prompt.messages, prompt.options)
    const [ids] = await tokenizer.encodeBatch([text], { addSpecialTokens: isText, signal })
    const tokens = startOf(ids!, tokenizer)
    if (tokens !== null) return tokens
    throw new MorError(
      'INVALID_ARGUMENT',
      'the prompt is empty, and the tokenizer has no begin or end token to start from',
    )
  }

  async #loadTokenizer(): Promise<Tokenizer> {
    const { folder, tokenizer } = this.source
    if (tokenizer !== null) return tokenizer
    if (folder !== null) return Tokenizer.load(folder)
    throw new MorError(
      'INVALID_ARGUMENT',
      'the model has no tokenizer: give one to Model.create or to the engine, or give the prompt as token ids',
    )
  }

  async #loadChatTemplate(): Promise<ChatTemplate> {
    const { folder, chatTemplate } = this.source
    const template = chatTemplate ?? (folder === null ? null : await ChatTemplate.load(folder))
    if (template !== null) return template
    throw new MorError(
      'INVALID_ARGUMENT',
      `the model has no chat template${folder === null ? '' : ` in ${folder}`}: give one to the engine, or give the prompt as text`,
    )
  }
}
