// A text that is encoded in segments has the ids that it has as a whole, also where a tokenizer puts a space before a text.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { encodeSegments } from '../../../lib/dataset/encode.js'
import { type PlacedSegment, readSegments } from '../../../lib/dataset/source.js'
import { MorError } from '../../../lib/errors.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { families, loadFamily } from '../tokenizer/families.js'

const lines = ['Once upon a time, there was a little girl.\n', ' there was\n', '\n', '\n\n a time']
const text = Array.from({ length: 4000 }, (_, i) => lines[((i * i) % 7) % lines.length]!).join('')
const oneLine = 'there was a little girl, upon a time, '.repeat(2000)

it.each([
  ['llama', {}],
  ['metaspace', {}],
  ['byteLevel', {}],
  ['byteLevel', { pre_tokenizer: { ...families.byteLevel.pre_tokenizer, add_prefix_space: true } }],
] as const)('by a tokenizer of the family %s %j', async (family, changes) => {
  const tokenizer = await loadFamily(family, changes)
  const folder = mkdtempSync(join(tmpdir(), 'mor-encode-'))
  const files = [join(folder, 'lines.txt'), join(folder, 'documents.jsonl')]
  const documents = [text, oneLine, 'Once', text]
  writeFileSync(files[0]!, documents[0]!)
  writeFileSync(
    files[1]!,
    documents
      .slice(1)
      .map((document) => JSON.stringify({ text: document }))
      .join('\n'),
  )
  const options = { textField: 'text', format: null, signal: undefined }
  const segments: PlacedSegment[] = []
  for await (const segment of readSegments(files, options)) segments.push(segment)
  expect(segments.filter(({ continuesDocument }) => continuesDocument).length).toBeGreaterThan(8)
  // Reading that goes on in the middle of a document knows that it does.
  for (const i of [0, 3, 6]) {
    for await (const segment of readSegments(files, options, segments[i]!.after)) {
      expect(segment).toEqual(segments[i + 1])
      break
    }
  }
  rmSync(folder, { recursive: true })
  const found: number[][] = [[]]
  const source = (async function* () {
    yield* segments
  })()
  for await (const { ids, endsDocument } of encodeSegments(source, { tokenizer, threads: 1, signal: undefined })) {
    for (const id of ids) found.at(-1)!.push(id)
    if (endsDocument) found.push([])
  }
  expect(found.slice(0, -1)).toEqual(
    documents.map((document) => [...tokenizer.encode(document, { addSpecialTokens: false })]),
  )
})

it('also where a line end has no token', async () => {
  const tokenizer = Tokenizer.byteLevel()
  const encodeBatch: Tokenizer['encodeBatch'] = async (texts, options) => {
    if (texts.some((one) => one.includes('\n'))) throw new MorError('INVALID_ARGUMENT', 'no token for "\\n"')
    return tokenizer.encodeBatch(texts, options)
  }
  const without: Tokenizer = Object.assign(Object.create(tokenizer), { encodeBatch })
  const place = { file: 0, segments: 0, digest: '' }
  const segments = ['one', ' and', ' two'].map((text, i): PlacedSegment => {
    return { text, continuesDocument: i > 0, endsDocument: i === 2, after: place }
  })
  const source = (async function* () {
    yield* segments
  })()
  const ids: number[] = []
  for await (const segment of encodeSegments(source, { tokenizer: without, threads: 1, signal: undefined }))
    ids.push(...segment.ids)
  expect(ids).toEqual([...tokenizer.encode('one and two')])
})
