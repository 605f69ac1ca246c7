// How many tokens an answer took, in the form of OpenAI's API.

export interface Usage {
  /** Tokens of the prompts; each prompt counts once for every n. */
  prompt_tokens: number
  /** All generated tokens, those of stop strings included. */
  completion_tokens: number
  total_tokens: number
}

export function usageOf(promptTokens: number, completionTokens: number): Usage {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  }
}
