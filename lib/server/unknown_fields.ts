// Fields of a body that the server does not act on: which of them are refused, and how the others are counted.
import type { JsonObject } from '../check.js'
import { suggestion } from '../suggest.js'
import { invalidField } from './api_error.js'

/** The API that an ignored field belongs to. Names of fields are the clients' own, so they would not do as labels. */
export type FieldClass = 'openai' | 'vllm' | 'unknown'

/** Fields of OpenAI's API that change no token of an answer: they are accepted everywhere, and not counted. */
const withoutEffect = new Set([
  'user',
  'store',
  'metadata',
  'service_tier',
  'safety_identifier',
  'prompt_cache_key',
  'prompt_cache_retention',
])

const openai = new Set([
  'audio',
  'moderation',
  'parallel_tool_calls',
  'prediction',
  'reasoning_effort',
  'suffix',
  'verbosity',
  'web_search_options',
])

const vllm = new Set([
  'add_generation_prompt',
  'add_special_tokens',
  'allowed_token_ids',
  'bad_words',
  'cache_salt',
  'chat_template',
  'chat_template_kwargs',
  'continue_final_message',
  'detokenize',
  'documents',
  'early_stopping',
  'include_stop_str_in_output',
  'kv_transfer_params',
  'length_penalty',
  'mm_processor_kwargs',
  'prompt_logprobs',
  'request_id',
  'return_token_ids',
  'return_tokens_as_token_ids',
  'skip_special_tokens',
  'spaces_between_special_tokens',
  'truncate_prompt_tokens',
  'use_beam_search',
  'vllm_xargs',
])

/** Longer names are no misspelt ones, and would be slow to compare. */
const LONGEST_NAME = 64

/**
 * Calls `ignored` for each field that is not in `known`. A field that is null counts as left out.
 * @param strict whether such a field is refused instead
 */
export function checkFields(
  body: JsonObject,
  known: ReadonlySet<string>,
  strict: boolean,
  ignored: (fieldClass: FieldClass) => void,
): void {
  for (const key of Object.keys(body)) {
    if (known.has(key) || withoutEffect.has(key) || body[key] === null) continue
    if (strict) {
      const near = key.length <= LONGEST_NAME ? suggestion(key, known) : ''
      throw invalidField(key, `unknown field "${key}"${near}`, 'unknown_field')
    }
    ignored(openai.has(key) ? 'openai' : vllm.has(key) ? 'vllm' : 'unknown')
  }
}
