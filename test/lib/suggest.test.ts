// Near names are suggested, far ones are not.
import { expect, it } from 'vitest'
import { suggestion } from '../../lib/suggest.js'

it.each([
  ['hiden_size', ['hidden_size', 'vocab_size'], ' (did you mean "hidden_size"?)'],
  ['HIDDEN_SIZE', ['hidden_size'], ' (did you mean "hidden_size"?)'],
  ['topk', ['topP', 'topK'], ' (did you mean "topK"?)'],
  ['maxBatch', ['kvCacheBytes', 'maxBatchSize'], ' (did you mean "maxBatchSize"?)'],
  ['zzz', ['hidden_size'], ''],
  ['x', [], ''],
])('%s among %j', (name, known, expected) => {
  expect(suggestion(name, known)).toBe(expected)
})
