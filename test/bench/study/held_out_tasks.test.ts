import { describe, expect, it } from 'vitest'
import { lastWordExamples, minimalPairs } from '../../../bench/study/held_out_tasks.js'

const filler = 'There were many things to see on that long road and none of them was new.'

describe('lastWordExamples', () => {
  it('takes passages whose last word occurred before, without that word', () => {
    const text = `The captain held the lantern. ${filler} ${filler} Nobody on deck dared to touch the lantern.`
    const [example, ...others] = lastWordExamples([text], 10)
    expect(others).toEqual([])
    expect(example!.continuation).toBe('lantern')
    expect(example!.context).toBe(`The captain held the lantern. ${filler} ${filler} Nobody on deck dared to touch the`)
  })

  it('leaves out passages that end with a word of their own', () => {
    const text = `The captain held the lantern. ${filler} ${filler} Nobody on deck dared to touch the compass.`
    expect(lastWordExamples([text], 10)).toEqual([])
  })

  it('spreads the examples evenly over all texts', () => {
    const texts = ['harbour', 'lantern', 'meadow', 'orchard'].map(
      (word) => `They saw the ${word} once. ${filler} ${filler} Then all of them went back to the ${word}.`,
    )
    expect(lastWordExamples(texts, 2).map(({ continuation }) => continuation)).toEqual(['harbour', 'meadow'])
  })
})

describe('minimalPairs', () => {
  it('changes one thing in a sentence, for each phenomenon', () => {
    const text =
      'At noon he was very tired. They gave this man some water. She spoke to him about it. The end of the day came soon.'
    expect(minimalPairs([text], 100)).toEqual({
      verb_number: [{ good: 'At noon he was very tired.', bad: 'At noon he were very tired.' }],
      determiner_number: [{ good: 'They gave this man some water.', bad: 'They gave these man some water.' }],
      pronoun_case: [{ good: 'She spoke to him about it.', bad: 'She spoke to he about it.' }],
      word_order: [{ good: 'The end of the day came soon.', bad: 'The end the of day came soon.' }],
    })
  })

  it('gives every phenomenon its share', () => {
    const text = 'At noon he was very tired. '.repeat(50)
    expect(minimalPairs([text], 40).verb_number).toHaveLength(10)
  })
})
