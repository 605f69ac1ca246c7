import { expect, it } from 'vitest'
import { lastWordExamples } from '../../../bench/study/last_words.js'

const filler = 'There were many things to see on that long road and none of them was new.'

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

it('leaves out words that the last sentence has said itself', () => {
  const text = `The captain held the lantern. ${filler} ${filler} Without a lantern nobody can find the lantern.`
  expect(lastWordExamples([text], 10)).toEqual([])
})

it('ends at the last clause of a sentence that fits', () => {
  const before = `The captain held the lantern. ${filler} ${filler} Nobody dared to touch the`
  const [example, ...others] = lastWordExamples([`${before} lantern, or the “captain;” for he was angry.`], 10)
  expect(others).toEqual([])
  expect(example).toEqual({ context: before, continuation: 'lantern' })
})

it('takes every sentence that fits, after as much of the text as a passage may have', () => {
  const named = 'He called his brother Jonathan and told the old “captain,” who listened to him.'
  const text = `${named} ${filler} ${filler} ${filler} Then at last they saw the captain. ${`${filler} `.repeat(5)}That was the road to the captain.`
  const examples = lastWordExamples([text], 10)
  expect(examples.map(({ continuation }) => continuation)).toEqual(['captain', 'captain'])
  expect(examples[0]!.context.startsWith('He called')).toBe(true)
  // The whole text has more than 150 words.
  expect(examples[1]!.context.split(' ').length).toBeLessThan(150)
  expect(examples[1]!.context.startsWith('There were')).toBe(true)
})

it('spreads the examples evenly over all texts', () => {
  const texts = ['harbour', 'lantern', 'meadow', 'orchard'].map(
    (word) => `They saw the ${word} once. ${filler} ${filler} Then all of them went back to the ${word}.`,
  )
  expect(lastWordExamples(texts, 2).map(({ continuation }) => continuation)).toEqual(['harbour', 'meadow'])
})
