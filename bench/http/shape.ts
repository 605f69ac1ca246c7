// The model of the HTTP bench: the 135M shape with the vocabulary of bytes.
import { type ModelConfig, presets } from '../../lib/index.js'

export const modelName = 'bench'

export const config: ModelConfig = { ...presets['135M-mor-3'], vocab_size: 257, max_position_embeddings: 512 }

/** Of a stream of chat: text that is not empty. */
export const firstText = /"content":"[^"]/

export const template = '{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>'
