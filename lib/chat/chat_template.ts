// ChatTemplate: makes the text of a prompt of a conversation, by the Jinja template of a checkpoint.
import type { Template } from '@huggingface/jinja'
import { Checker, checkPath } from '../check.js'
import { MorError } from '../errors.js'
import { type ChatMessage, readMessages } from './messages.js'
import { type RenderOptions, readRenderOptions, renderKeys } from './render_options.js'
import { strftime } from './strftime.js'
import { findTemplate, type TemplateSource } from './template_files.js'

/**
 * Gives templates Python's `strftime` in place of the library's, which knows fewer directives and writes the names of months
 * in the language of the system. The newline is removed with the block.
 */
const prelude = '{% set strftime_now = python_strftime_now %}\n'

export class ChatTemplate {
  /** The Jinja source. */
  readonly source: string
  readonly #template: Template
  readonly #specialTokens: Record<string, string>

  private constructor({ source, specialTokens }: TemplateSource, template: Template) {
    this.source = source
    this.#template = template
    this.#specialTokens = specialTokens
  }

  /**
   * Reads the template of a checkpoint or tokenizer folder: `chat_template.jinja`, or `chat_template` of
   * `tokenizer_config.json` (of several, the one named "default"); or the file at `path`. Null where a folder has none.
   * @param options.specialTokensOf the checkpoint or tokenizer whose special tokens, such as `bos_token`, the template may name. Default:
   * those beside the template
   * @throws {MorError} CHECKPOINT_INVALID, CHECKPOINT_MISSING (no file or folder at `path`), IO_ERROR, INVALID_ARGUMENT
   */
  static async load(path: string, options: { specialTokensOf?: string } = {}): Promise<ChatTemplate | null> {
    checkPath(path, 'ChatTemplate.load: the folder or file')
    const check = Checker.of(options, 'ChatTemplate.load')
    check.onlyKeys(['specialTokensOf'])
    const checkpoint = options.specialTokensOf ?? undefined
    if (checkpoint !== undefined) checkPath(checkpoint, 'ChatTemplate.load: specialTokensOf')
    const found = await findTemplate(path, checkpoint)
    if (found === null) return null
    const { Template } = await import('@huggingface/jinja')
    try {
      return new ChatTemplate(found, new Template(prelude + found.source))
    } catch (error) {
      throw new MorError(
        'CHECKPOINT_INVALID',
        `${found.where}: the chat template is wrong: ${(error as Error).message}`,
      )
    }
  }

  /**
   * The prompt as text. It holds the begin token if the template writes one, so encode it with `addSpecialTokens: false`.
   * Messages of a developer are those of the system, unless the template knows the role.
   * @throws {MorError} INVALID_ARGUMENT for wrong messages and options, and where the template refuses them, as some do for roles out of
   * order
   */
  render(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    const check = Checker.of(options, 'render')
    check.onlyKeys(renderKeys)
    const { addGenerationPrompt, variables } = readRenderOptions(check)
    const knowsDevelopers = this.source.includes('developer')
    const given = readMessages(messages).map((message) => {
      return message.role === 'developer' && !knowsDevelopers ? { ...message, role: 'system' as const } : message
    })
    try {
      return this.#template.render({
        ...this.#specialTokens,
        ...safe(variables),
        messages: given,
        add_generation_prompt: addGenerationPrompt,
        python_strftime_now: (format: string) => strftime(new Date(), format),
      })
    } catch (error) {
      throw new MorError(
        'INVALID_ARGUMENT',
        `the model's chat template does not take these messages: ${(error as Error).message}`,
      )
    }
  }
}

/** Names that the template's language defines itself, and would refuse. */
const reserved = new Set(['false', 'true', 'none', 'False', 'True', 'None', 'range', 'namespace', 'raise_exception'])

function safe(variables: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(variables).filter(([name]) => !reserved.has(name) && !/^(python_)?strftime_now$/.test(name)),
  )
}
