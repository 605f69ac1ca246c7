// The public names of `mixture-of-recursions/server`. Whatever is not exported here is internal.
export type { ErrorBody } from './api_error.js'
export type { ChatChoice, ChatChunk, ChatCompletion, ChatLogprobs } from './chat_response.js'
export type { Choice, Completion, Logprobs } from './completion_response.js'
export type { ModelOptions, ServedEngine, ServerOptions } from './options.js'
export { createServer, type ModelServer } from './server.js'
export type { Usage } from './usage.js'
