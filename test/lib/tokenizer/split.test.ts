// The pre-tokenizer Split. What is expected is what Hugging Face's tokenizers 0.23 gives.
import { describe, expect, it } from 'vitest'
import { splitText } from '../../../lib/tokenizer/split.js'

const text = ' a1 22b, c!! ...3 x '

describe('the parts of a text', () => {
  it.each<[string, boolean, RegExp, string[]]>([
    ['Isolated', false, /\d/gu, [' a', '1', ' ', '2', '2', 'b, c!! ...', '3', ' x ']],
    ['Isolated', true, /\d/gu, [' a', '1', ' ', '2', '2', 'b, c!! ...', '3', ' x ']],
    ['Removed', false, /\d/gu, [' a', ' ', 'b, c!! ...', ' x ']],
    ['Removed', true, /\d/gu, ['1', '2', '2', '3']],
    ['Removed', false, / /gu, ['a1', '22b,', 'c!!', '...3', 'x']],
    ['Removed', true, / /gu, [' ', ' ', ' ', ' ', ' ', ' ']],
    ['Contiguous', false, /\d/gu, [' a', '1', ' ', '22', 'b, c!! ...', '3', ' x ']],
    ['Contiguous', true, /\d/gu, [' a', '1', ' ', '22', 'b, c!! ...', '3', ' x ']],
    ['MergedWithPrevious', false, /\d/gu, [' a1', ' 2', '2', 'b, c!! ...3', ' x ']],
    ['MergedWithPrevious', true, /\d/gu, [' a', '1 ', '2', '2b, c!! ...', '3 x ']],
    ['MergedWithPrevious', false, / /gu, [' ', 'a1 ', '22b, ', 'c!! ', '...3 ', 'x ']],
    ['MergedWithPrevious', true, / /gu, [' a1', ' 22b,', ' c!!', ' ...3', ' x', ' ']],
    ['MergedWithNext', false, /\d/gu, [' a', '1 ', '2', '2b, c!! ...', '3 x ']],
    ['MergedWithNext', true, /\d/gu, [' a1', ' 2', '2', 'b, c!! ...3', ' x ']],
    ['MergedWithNext', false, / /gu, [' a1', ' 22b,', ' c!!', ' ...3', ' x', ' ']],
    ['MergedWithNext', true, / /gu, [' ', 'a1 ', '22b, ', 'c!! ', '...3 ', 'x ']],
  ])('%s, inverted: %s, by %s', (behavior, invert, pattern, parts) => {
    expect(splitText(text, pattern, { behavior, invert })).toEqual(parts)
    expect(splitText('', pattern, { behavior, invert })).toEqual([])
  })

  it('need a behaviour that is known', () => {
    expect(() => splitText('a', /a/gu, { behavior: 'Mixed' })).toThrow('unknown behavior "Mixed"')
  })
})
