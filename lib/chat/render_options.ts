// The options of a chat template, checked.
import type { Checker } from '../check.js'

export interface RenderOptions {
  /** Whether the text ends with the beginning of the assistant's answer. Default true. */
  addGenerationPrompt?: boolean
  /** Further variables of the template, such as `enable_thinking`. */
  variables?: Record<string, unknown>
}

export const renderKeys = ['addGenerationPrompt', 'variables'] as const satisfies (keyof RenderOptions)[]

/** @throws {MorError} INVALID_ARGUMENT */
export function readRenderOptions(check: Checker): Required<RenderOptions> {
  return {
    addGenerationPrompt: check.boolean('addGenerationPrompt', true),
    // The caller may change them before the template is loaded.
    variables: check.has('variables') ? { ...check.child('variables').object } : {},
  }
}
