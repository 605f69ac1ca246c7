import { expect, it } from 'vitest'
import { minimalPairs } from '../../../bench/study/minimal_pairs.js'

/** The sentences made wrong, by kind. */
function wrong(sentences: readonly string[], kind: string): string[] {
  const pairs = minimalPairs([sentences.join(' ')], 100)[kind]!
  for (const { good } of pairs) expect(sentences).toContain(good)
  return pairs.map(({ bad }) => bad)
}

it.each<[kind: string, good: string[], bad: string[]]>([
  ['adjacent_words', ['He saw them standing there.'], ['He saw standing them there.']],
  ['nouns', ['So the man opened his door.'], ['So the door opened his man.']],
  [
    'verb_number',
    ['Then the walls were very old.', 'Then the house was very old.'],
    ['Then the walls was very old.', 'Then the house were very old.'],
  ],
  [
    'tense',
    ['He took it and went away.', 'You must sit and think now.'],
    ['He took it and go away.', 'You must sit and thought now.'],
  ],
  [
    'participle',
    ['At last the man went to town.', 'They had all gone away now.'],
    ['At last the man gone to town.', 'They had all went away now.'],
  ],
  [
    'article',
    ['There is a table here.', 'There is an apple here.'],
    ['There is an table here.', 'There is a apple here.'],
  ],
])('%s', (kind, good, bad) => {
  const found = wrong(good, kind)
  expect(found).toHaveLength(good.length)
  for (const sentence of found) expect(bad).toContain(sentence)
})

it('gives both directions of a kind the same number of pairs', () => {
  const text = `${'There is a table here. '.repeat(9)}There is an apple here. Now take an orange too.`
  const pairs = minimalPairs([text], 100).article!
  expect(pairs.map(({ good }) => / an /.test(good))).toEqual([false, false, true, true])
  expect(minimalPairs(['There is a table here.'], 100).article).toEqual([])
})

it.each([
  ['a pronoun as the subject', 'He said that she was old.', 'verb_number'],
  ['a word that either article may stand before', 'There is a house here.', 'article'],
])('leaves out %s', (_, sentence, kind) => {
  const other: Record<string, string> = {
    verb_number: 'Then the walls were very old.',
    article: 'There is an apple here.',
  }
  expect(minimalPairs([`${sentence} ${other[kind]}`], 100)[kind]).toEqual([])
})

it('puts another preposition, and another word as frequent and of the same ending, in the place of one', () => {
  const sentence = 'Then they walked slowly into town.'
  const [preposition] = wrong([sentence], 'preposition')
  expect(preposition).toMatch(/^Then they walked slowly (of|in|on|at|for|from|with|by|upon) town\.$/)
  const texts = ['The tables were ready.', 'Some chairs were ready.', 'She jumped with joy.', 'He walked with joy.']
  const words = wrong(texts, 'word_choice')
  expect(words).toContain('She walked with joy.')
  expect(words).toContain('He jumped with joy.')
  expect(words.every((bad) => !texts.includes(bad))).toBe(true)
})

it('makes the same pairs in every run, at most so many of each kind, from all texts', () => {
  const texts = Array.from({ length: 8 }, (_, i) => `Then number${i} of the man opened his door in the town.`)
  const pairs = minimalPairs(texts, 4)
  expect(minimalPairs(texts, 4)).toEqual(pairs)
  expect(pairs.nouns!.map(({ good }) => /\d/.exec(good)![0])).toEqual(['0', '2', '4', '6'])
  for (const list of Object.values(pairs)) {
    expect(list.length).toBeLessThanOrEqual(4)
    for (const { good, bad } of list) expect(bad).not.toBe(good)
  }
})
