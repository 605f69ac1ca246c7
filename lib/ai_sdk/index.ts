// The public names of `mixture-of-recursions/ai-sdk`. Whatever is not exported here is internal.
export { createLanguageModel, type LanguageModelEngine, type LanguageModelOptions } from './language_model.js'
