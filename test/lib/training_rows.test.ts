// Training rows: packed by length within each part of the batch, with the tokens that count.
import { describe, expect, it } from 'vitest'
import { resolveConfig } from '../../lib/config.js'
import { packTrainingRows, type TrainingRow } from '../../lib/training_rows.js'

const config = resolveConfig({
  vocab_size: 16,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  max_position_embeddings: 8,
})
const pack = (batch: unknown, parts = 1) => {
  const { tokens, counts, shapes } = packTrainingRows(batch as TrainingRow[], config, parts)
  return { tokens: [...tokens], counts: counts && [...counts], shapes: [...shapes] }
}

describe('packTrainingRows', () => {
  it('keeps rows of one length in order', () => {
    expect(pack([[1, 2, 3], Int32Array.of(4, 5, 6)])).toEqual({
      tokens: [1, 2, 3, 4, 5, 6],
      counts: null,
      shapes: [2, 2],
    })
  })

  it('makes a micro-batch of each part and length', () => {
    const batch = [
      [1, 2, 3],
      [4, 5],
      [6, 7, 8],
      [9, 10],
      [11, 12],
      [13, 14],
    ]
    expect(pack(batch).shapes).toEqual([2, 2, 4, 1])
    expect(pack(batch).tokens).toEqual([1, 2, 3, 6, 7, 8, 4, 5, 9, 10, 11, 12, 13, 14])
    expect(pack(batch, 2).shapes).toEqual([2, 2, 1, 1, 3, 1])
    expect(pack(batch, 2).tokens).toEqual([1, 2, 3, 6, 7, 8, 4, 5, 9, 10, 11, 12, 13, 14])
  })

  it('takes masks of booleans or numbers, and rows without one count whole', () => {
    const batch = [{ tokens: [1, 2, 3], lossMask: [false, true, false] }, [4, 5], { tokens: [6, 7, 8] }]
    expect(pack(batch)).toEqual({
      tokens: [1, 2, 3, 6, 7, 8, 4, 5],
      counts: [0, 1, 0, 1, 1, 1, 1, 1],
      shapes: [2, 2, 1, 1],
    })
    expect(pack([{ tokens: [1, 2, 3], lossMask: Uint8Array.of(1, 0, 1) }]).counts).toEqual([1, 0, 1])
  })

  it.each<[unknown, RegExp]>([
    [[], /the batch is \[\]; it must be an array of at least one row/],
    [[[1]], /rows have 1 tokens; they need at least 2/],
    [[Array(10).fill(0)], /rows have 10 tokens; the context holds 8 and one label/],
    [[[1, 2], 'ab'], /row 1 is "ab"; it must be an array of token ids/],
    [[[1, 2], null], /row 1 is null; it must be an array of token ids/],
    [[{ tokens: 'ab' }], /row 0 is "ab"; it must be an array of token ids/],
    [
      [
        [1, 2],
        [3, 99],
      ],
      /row 1: the token at index 1 is 99/,
    ],
    [
      [
        [1, 2, 3],
        [1, 2],
        [3, 99],
      ],
      /row 2: the token at index 1 is 99/,
    ],
    [[{ tokens: [1, 2], mask: [1, 1] }], /row 0: unknown key "mask"/],
    [[{ tokens: [1, 2], lossMask: [true] }], /row 0: lossMask has 1 entries and tokens 2/],
    [[{ tokens: [1, 2], lossMask: true }], /row 0: lossMask has true entries and tokens 2/],
    [[{ tokens: [1, 2], lossMask: [true, 2] }], /row 0: lossMask has 2 at index 1; it must be true, false, 1 or 0/],
  ])('refuses %j', (batch, message) => {
    expect(() => pack(batch)).toThrow(message)
  })
})
