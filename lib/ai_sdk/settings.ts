// Turns the settings of a call of the AI SDK into options of the engine, and warns of those that have no effect.
import type { LanguageModelV3CallOptions, SharedV3Warning } from '@ai-sdk/provider'
import type { ChatOptions } from '../engine.js'

/** The key of this provider in `providerOptions` and `providerMetadata`. */
export const providerKey = 'mor'

/** The engine checks their values. */
export function readSettings(options: LanguageModelV3CallOptions): ChatOptions {
  const { maxOutputTokens, temperature, topP, topK, presencePenalty, frequencyPenalty, seed } = options
  const settings: ChatOptions = {
    maxTokens: maxOutputTokens,
    temperature,
    topP,
    topK,
    presencePenalty,
    frequencyPenalty,
    seed,
    stop: options.stopSequences,
    signal: options.abortSignal,
  }
  const given = Object.entries(settings).filter(([, value]) => value !== undefined)
  return { ...options.providerOptions?.[providerKey], ...Object.fromEntries(given) }
}

export function settingWarnings({ tools, toolChoice, responseFormat }: LanguageModelV3CallOptions): SharedV3Warning[] {
  const warnings: SharedV3Warning[] = []
  const warn = (feature: string, details: string) => warnings.push({ type: 'unsupported', feature, details })
  if (tools !== undefined && tools.length > 0) warn('tools', 'The model answers with text alone and calls no tool.')
  else if (toolChoice?.type === 'required' || toolChoice?.type === 'tool') warn('toolChoice', 'There are no tools.')
  if (responseFormat?.type === 'json') warn('responseFormat', 'The answer is text, which may be no JSON.')
  return warnings
}
