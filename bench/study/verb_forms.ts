// Verbs whose forms differ, for tasks that put one form in the place of another.

export interface Verb {
  base: string
  past: string
  participle: string
}

/** Those whose past differs from the base, and from the participle where that matters. */
export const verbs: readonly Verb[] = [
  'begin began begun',
  'break broke broken',
  'bring brought brought',
  'choose chose chosen',
  'come came come',
  'draw drew drawn',
  'drive drove driven',
  'eat ate eaten',
  'fall fell fallen',
  'feel felt felt',
  'find found found',
  'fly flew flown',
  'forget forgot forgotten',
  'give gave given',
  'go went gone',
  'grow grew grown',
  'hear heard heard',
  'hold held held',
  'keep kept kept',
  'know knew known',
  'lose lost lost',
  'make made made',
  'meet met met',
  'ride rode ridden',
  'rise rose risen',
  'run ran run',
  'say said said',
  'see saw seen',
  'send sent sent',
  'shake shook shaken',
  'sing sang sung',
  'sit sat sat',
  'speak spoke spoken',
  'stand stood stood',
  'steal stole stolen',
  'swear swore sworn',
  'take took taken',
  'tear tore torn',
  'tell told told',
  'think thought thought',
  'throw threw thrown',
  'wear wore worn',
  'write wrote written',
].map((line) => {
  const [base, past, participle] = line.split(' ') as [string, string, string]
  return { base, past, participle }
})
