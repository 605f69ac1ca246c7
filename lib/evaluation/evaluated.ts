// What tasks measure.
import type { Model } from '../model.js'
import type { Tokenizer } from '../tokenizer.js'
import type { RoutingOptions } from './scorer.js'

/** A model with its tokenizer, and how its tokens are routed while it is measured. */
export interface Evaluated {
  model: Model
  tokenizer: Tokenizer
  routing: RoutingOptions
}
