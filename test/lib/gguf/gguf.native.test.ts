// GGUF both ways on the real addon: every family of test/fixtures/published written and read again, bit for bit, with what
// PyTorch computed; a file of llama.cpp's own; and files that are broken.
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, test, vi } from 'vitest'
import { ChatTemplate } from '../../../lib/chat/chat_template.js'
import { convert } from '../../../lib/convert.js'
import { Engine } from '../../../lib/engine.js'
import { readGguf } from '../../../lib/gguf/reader.js'
import { ggufHeader, string, strings, type TypedValue, uint32 } from '../../../lib/gguf/values.js'
import { Model } from '../../../lib/model.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { mor } from '../cli/process.js'
import { readTensors } from '../safetensors_values.js'
import { sharedData } from '../shared_data.js'
import { type Family, families as tokenizers } from '../tokenizer/families.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const folder = mkdtempSync(join(tmpdir(), 'mor-gguf-'))
afterAll(() => rmSync(folder, { recursive: true }))
let made = 0
const nextOutput = (ending = '') => join(folder, `output-${made++}${ending}`)
const cpu = { device: 'cpu', dtype: 'float32' } as const

const fixtures = join('test', 'fixtures', 'published')

describe.each(readdirSync(fixtures))('%s', (family) => {
  const source = join(folder, family)
  beforeAll(() => {
    cpSync(join(fixtures, family), source, { recursive: true })
    // It names tokens of a vocabulary that the fixture does not have.
    rmSync(join(source, 'tokenizer_config.json'))
  })

  it('as GGUF computes what PyTorch does', async () => {
    const path = nextOutput('.gguf')
    await convert(source, { output: path })
    await using model = await Model.load(path, cpu)
    await using original = await Model.load(source, cpu)
    expect(model.config).toEqual({ ...original.config, initializer_range: 0.02 })
    const expected = readTensors(join(source, 'expected.safetensors'))
    const row = [...expected('tokens')].slice(0, -1)
    const { logits } = await model.forward([row])
    expect(logits).toEqual((await original.forward([row])).logits)
    await using engine = new Engine(model)
    const ids = [...expected('greedy')]
    expect([
      ...(await engine.generate(row.slice(0, 8), { maxTokens: ids.length, temperature: 0 }).result).tokens,
    ]).toEqual(ids)
  })
})

describe.each(['Llama-3.1-8B-Instruct', 'Qwen2.5-7B-Instruct', 'Qwen3-0.6B'])('%s', (family) => {
  const source = join(folder, family)
  it.each(['float32', 'bfloat16', 'float16'] as const)('in %s comes back bit for bit', async (dtype) => {
    const [path, again, back, plain] = [nextOutput('.gguf'), nextOutput('.gguf'), nextOutput(), nextOutput()]
    await convert(source, { output: path, dtype })
    await convert(path, { output: again })
    expect(readFileSync(again).equals(readFileSync(path))).toBe(true)
    await convert(path, { output: back, dtype })
    await convert(source, { output: plain, dtype })
    const [found, expected] = [back, plain].map((each) => readTensors(join(each, 'model.safetensors')))
    await using model = await Model.load(plain, cpu)
    for (const { name } of model.native.parameters()) expect(found!(name), name).toEqual(expected!(name))
  })
})

const stories = sharedData('checkpoints/stories260K/stories260K.gguf')

describe.skipIf(stories === null)('stories260K.gguf, as it was published (../shared/data)', () => {
  const path = join(folder, 'stories', 'stories260K.gguf')
  const huggingFace = join(stories ?? '', '..')
  beforeAll(() => {
    mkdirSync(join(path, '..'))
    copyFileSync(stories!, path)
  })

  it('has the logits of the Hugging Face folder of the same model', async () => {
    await using one = await Model.load(path, cpu)
    await using other = await Model.load(huggingFace, cpu)
    const row = Array.from({ length: 200 }, (_, i) => (i * 37) % 512)
    expect((await one.forward([row])).logits).toEqual((await other.forward([row])).logits)
  })

  const texts = [
    'Once upon a time, there was a little girl.',
    'Hello  wörld\n 日本\t🙂',
    '',
    ' x',
    `Lily's mom said "no!" 1234`,
  ]

  it('has the tokenizer of that folder inside, which is saved as one', async () => {
    const [inside, theirs] = [await Tokenizer.load(path), await Tokenizer.load(huggingFace)]
    const saved = nextOutput()
    await inside.save(saved)
    const again = await Tokenizer.load(saved)
    for (const tokenizer of [inside, again]) {
      expect([tokenizer.bosTokenId, tokenizer.eosTokenId, tokenizer.vocabSize]).toEqual([1, 2, 512])
      for (const text of texts) {
        expect(tokenizer.encode(text)).toEqual(theirs.encode(text))
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text)
      }
    }
    expect(again.fingerprint).toBe(inside.fingerprint)
  })

  it('that folder as GGUF has the same tokenizer inside', async () => {
    const written = join(folder, 'written', 'stories.gguf')
    await convert(huggingFace, { output: written })
    const [inside, theirs] = [await Tokenizer.load(written), await Tokenizer.load(huggingFace)]
    for (const text of texts) expect(inside.encode(text)).toEqual(theirs.encode(text))
  })

  it('generates the text of the reference implementation by `mor generate`', async () => {
    const { code, stdout, stderr } = await mor(
      'generate',
      path,
      '--temperature',
      '0',
      '--dtype',
      'float32',
      '--max-tokens',
      '150',
    )
    expect([code, stderr]).toEqual([0, ''])
    const text = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).text ?? '')
      .join('')
    const expected = readFileSync(join(huggingFace, 'expected-greedy.txt'), 'utf8').trim()
    expect(text.length).toBeGreaterThan(200)
    expect(expected.slice(0, 200)).toBe(text.trim().slice(0, 200))
  })

  it('is described by `mor inspect`', async () => {
    const { stdout } = await mor('inspect', path)
    expect(JSON.parse(stdout)).toMatchObject({ kind: 'vanilla', layers: [0, 1, 2, 3, 4] })
  })

  it('becomes a Mixture-of-Recursions with its tokenizer', async () => {
    const output = nextOutput()
    await convert(path, { output, recursions: 3, router: { type: 'expert_choice' } })
    await using model = await Model.load(output, cpu)
    expect(model.config).toMatchObject({ num_recursions: 3, num_hidden_layers: 5, bos_token_id: 1, eos_token_id: 2 })
    const text = 'Once upon'
    expect((await Tokenizer.load(output)).encode(text)).toEqual((await Tokenizer.load(path)).encode(text))
  })
})

/** A vanilla model with files beside it. */
async function modelFolder(files: Record<string, unknown>): Promise<string> {
  const path = nextOutput()
  const shape = { hidden_size: 8, intermediate_size: 12, num_hidden_layers: 1, num_attention_heads: 2 }
  await using model = await Model.create({ ...shape, vocab_size: 600, bos_token_id: 256, eos_token_id: 256 }, cpu)
  await model.save(path)
  for (const [name, file] of Object.entries(files)) {
    writeFileSync(join(path, name), typeof file === 'string' ? file : JSON.stringify(file))
  }
  return path
}

const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }
const llama3Pattern =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
const sequenceOf = (...pretokenizers: object[]) => ({ pre_tokenizer: { type: 'Sequence', pretokenizers } })
const isolated = (Regex: string) => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false })

describe('tokenizers come through GGUF and back', () => {
  const texts = ['Once upon a time there was a little girl.', ' 12345 was, a\n\n', "there's", '', 'naïve 🙂']
  it.each<[string, Family, object]>([
    ['GPT-2', 'byteLevel', {}],
    ['SmolLM', 'byteLevel', sequenceOf({ type: 'Digits', individual_digits: true }, byteLevel)],
    ['Llama 3', 'byteLevel', sequenceOf(isolated(llama3Pattern), { ...byteLevel, use_regex: false })],
    [
      'Qwen',
      'byteLevel',
      {
        normalizer: { type: 'NFC' },
        ...sequenceOf(isolated(llama3Pattern.replace('{1,3}', '')), { ...byteLevel, use_regex: false }),
      },
    ],
  ])('%s', async (_, family, changes) => {
    const config = {
      bos_token: '<|endoftext|>',
      eos_token: '<|endoftext|>',
      add_bos_token: true,
      chat_template: '{{ bos_token }}{{ messages[0].content }}',
    }
    const source = await modelFolder({
      'tokenizer.json': { ...tokenizers[family], ...changes },
      'tokenizer_config.json': config,
    })
    const [path, back] = [nextOutput('.gguf'), nextOutput()]
    await convert(source, { output: path })
    await convert(path, { output: back })
    const expected = await Tokenizer.load(source)
    for (const where of [path, back]) {
      const tokenizer = await Tokenizer.load(where)
      for (const text of texts) expect(tokenizer.encode(text), text).toEqual(expected.encode(text))
      expect(tokenizer.eosTokenId).toBe(256)
      const template = await ChatTemplate.load(where)
      expect(template!.render([{ role: 'user', content: 'Hi' }])).toMatch(/Hi$/)
    }
  })

  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`)
  const pieces = ['<unk>', '<s>', '</s>', ...bytes, '▁', 'a', 'b', '▁a', 'ab']
  const sentencePiece = {
    ...tokenizers.llama,
    post_processor: null,
    model: {
      ...tokenizers.llama.model,
      vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
      merges: [
        ['▁', 'a'],
        ['a', 'b'],
      ],
    },
  }
  const metaspace = (prepend_scheme: string) => ({ type: 'Metaspace', replacement: '▁', prepend_scheme, split: false })
  it.each<[string, object]>([
    ['Llama 2', {}],
    ['Mistral', { normalizer: null, pre_tokenizer: metaspace('first') }],
    ['one that puts no space before a text', { normalizer: null, pre_tokenizer: metaspace('never') }],
    [
      'Gemma',
      {
        normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
        pre_tokenizer: { type: 'Split', pattern: { String: ' ' }, behavior: 'MergedWithPrevious', invert: false },
      },
    ],
  ])('of SentencePiece, as in %s', async (_, changes) => {
    // The begin and end tokens are said by the tokenizer alone.
    const source = await modelFolder({
      'tokenizer.json': { ...sentencePiece, ...changes },
      'tokenizer_config.json': { bos_token: '<s>', eos_token: '</s>', add_bos_token: true },
      'generation_config.json': {},
    })
    const config = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8'))
    writeFileSync(join(source, 'config.json'), JSON.stringify({ ...config, bos_token_id: null, eos_token_id: null }))
    const path = nextOutput('.gguf')
    await convert(source, { output: path })
    const [expected, tokenizer] = [await Tokenizer.load(source), await Tokenizer.load(path)]
    // Before a text that begins with a space llama.cpp puts another one, which Mistral's does not.
    for (const text of ['ab a', 'a', 'ä', '']) expect(tokenizer.encode(text), text).toEqual(expected.encode(text))
    expect([tokenizer.bosTokenId, tokenizer.eosTokenId]).toEqual([1, 2])
  })

  test('of bytes alone', async () => {
    const source = await modelFolder({})
    await Tokenizer.byteLevel().save(source)
    const path = nextOutput('.gguf')
    await convert(source, { output: path })
    expect([...(await Tokenizer.load(path)).encode('ä b')].filter((id) => id < 256)).toEqual([...Buffer.from('ä b')])
  })

  test('a tokenizer.json beside the file counts before the one inside', async () => {
    const source = await modelFolder({ 'tokenizer.json': tokenizers.byteLevel })
    const path = join(nextOutput(), 'model.gguf')
    await convert(source, { output: path })
    await Tokenizer.byteLevel().save(join(path, '..'))
    expect(await Tokenizer.load(path)).toBe(Tokenizer.byteLevel())
  })

  test('one that GGUF cannot describe is named, and nothing is written', async () => {
    for (const [json, problem] of [
      [tokenizers.wordPiece, /its model has the type "WordPiece"/],
      [{ ...tokenizers.byteLevel, pre_tokenizer: { type: 'Whitespace' } }, /its pre_tokenizer is .*Whitespace/],
      [{ ...tokenizers.byteLevel, pre_tokenizer: { ...byteLevel, add_prefix_space: true } }, /its pre_tokenizer is/],
      [{ ...tokenizers.byteLevel, normalizer: { type: 'Lowercase' } }, /its normalizer is .*Lowercase/],
      [{ ...sentencePiece, normalizer: { type: 'NFKC' } }, /it changes texts by .*NFKC/],
    ] as const) {
      const source = await modelFolder({ 'tokenizer.json': json })
      const output = nextOutput('.gguf')
      await expect(convert(source, { output })).rejects.toThrow(problem)
      expect(existsSync(output)).toBe(false)
    }
  })
})

test('heads that llama.cpp does not allow are an error', async () => {
  const source = nextOutput()
  const shape = { vocab_size: 8, hidden_size: 8, intermediate_size: 12, num_hidden_layers: 1, num_attention_heads: 2 }
  await using model = await Model.create({ ...shape, head_dim: 6, qkv_bias: true }, cpu)
  await model.save(source)
  const promise = convert(source, { output: nextOutput('.gguf') })
  await expect(promise).rejects.toThrow(/2 heads of 6 are not hidden_size 8, which llama.cpp needs/)
})

test('a recursive model is no GGUF file', async () => {
  const source = join(fixtures, 'Llama-3.2-1B')
  const promise = convert(source, { output: nextOutput('.gguf'), recursions: 2, sharing: 'cycle' })
  await expect(promise).rejects.toThrow(/2 recursions.* cannot be a GGUF file, which holds vanilla models/)
})

describe('a file that cannot be read', () => {
  const path = join(folder, 'broken.gguf')
  let whole: Buffer
  beforeAll(async () => {
    const source = nextOutput('.gguf')
    await convert(await modelFolder({ 'tokenizer.json': tokenizers.byteLevel }), { output: source })
    whole = readFileSync(source)
  })
  beforeEach(() => writeFileSync(path, whole))

  const loaded = () =>
    Model.load(path, cpu).then(
      () => 'it was loaded',
      (error) => `${error.code}: ${error.message}`,
    )

  /** Replaces the bytes of a text by those of another of the same length. */
  function replace(from: string, to: Buffer | string): void {
    const at = whole.indexOf(from)
    expect(at).toBeGreaterThan(0)
    const bytes = Buffer.from(whole)
    bytes.set(Buffer.from(to), at)
    writeFileSync(path, bytes)
  }

  function write(metadata: [string, TypedValue][]): void {
    writeFileSync(path, ggufHeader(metadata, []))
  }

  it('that lacks a tensor: its metadata says so, and no config.json', async () => {
    replace('blk.0.ffn_up.weight', 'blk.0.ffn_ux.weight')
    const message = await loaded()
    expect(message).toMatch(
      /CHECKPOINT_INVALID: .*1 missing \(model.layers.0.mlp.up_proj.weight\), 1 unexpected .*; by its metadata num_hidden_layers is/,
    )
    expect(message).not.toContain('config.json')
  })

  it('that is none, though its name says so', async () => {
    writeFileSync(path, '')
    expect(await loaded()).toMatch(/CHECKPOINT_INVALID: .*broken.gguf is no GGUF file.*; it has 0 bytes/)
    writeFileSync(path, 'GGXF'.repeat(9))
    expect(await loaded()).toMatch(
      /broken.gguf is no GGUF file, which begins with "GGUF"; it has 36 bytes: download or make it again/,
    )
  })

  it('wherever it ends', async () => {
    const { tensors } = await readGguf(path)
    const start = Math.min(...tensors.map(({ offset }) => offset))
    for (
      let length = 4;
      length < whole.length;
      length += length < start ? Math.ceil(start / 60) : Math.ceil(whole.length / 20)
    ) {
      writeFileSync(path, whole.subarray(0, length))
      expect(await loaded()).toMatch(/CHECKPOINT_INVALID: .*broken.gguf is a GGUF file that is truncated/)
    }
  })

  it('whatever bytes it holds', async () => {
    // Of a fixed seed, so that a failure comes again.
    let state = 12345
    const random = (below: number) => {
      state = (state * 1103515245 + 12345) % 2 ** 31
      return state % below
    }
    for (let i = 0; i < 150; i++) {
      const bytes = Buffer.from(whole)
      for (let n = 0; n < 4; n++) bytes[4 + random(3000)] = random(256)
      writeFileSync(path, bytes)
      expect(await loaded()).toMatch(/^(it was loaded|CHECKPOINT_INVALID|INVALID_CONFIG)/)
    }
  })

  it('quantised: the tensor and its type are named, and what to do', async () => {
    const at = whole.indexOf('blk.0.ffn_down.weight')
    const bytes = Buffer.from(whole)
    bytes.writeUInt32LE(12, at + 'blk.0.ffn_down.weight'.length + 4 + 16)
    writeFileSync(path, bytes)
    expect(await loaded()).toMatch(
      /"blk.0.ffn_down.weight" is Q4_K: only F32, F16 and BF16 are read. Give the model as BF16 or F16/,
    )
  })

  it.each<[string, [string, TypedValue][], RegExp]>([
    [
      'of another architecture',
      [['general.architecture', string('qwen2moe')]],
      /"qwen2moe"; "llama", "qwen2", "qwen3" are read \(did you mean "qwen2"\?\)/,
    ],
    [
      'of several parts',
      [
        ['general.architecture', string('llama')],
        ['split.count', uint32(3)],
      ],
      /of 3 that are one model.*llama-gguf-split --merge/,
    ],
    ['without weights', [['general.architecture', string('llama')]], /without token_embd.weight/],
  ])('%s', async (_, metadata, message) => {
    write(metadata)
    expect(await loaded()).toMatch(message)
  })

  it('with tensors that do not belong together', async () => {
    replace('blk.0.attn_norm.weight', 'blk.7.attn_norm.weight')
    expect(await loaded()).toMatch(/1 missing \(model.layers.0.input_layernorm.weight\), 1 unexpected \(model.layers.7/)
  })

  it('of another version', async () => {
    const bytes = Buffer.from(whole)
    bytes[4] = 1
    writeFileSync(path, bytes)
    expect(await loaded()).toMatch(/of version 1, and 2 and 3 are read/)
  })

  it.each<[string, [string, TypedValue][], RegExp]>([
    [
      'of an unknown kind',
      [['tokenizer.ggml.model', string('t5')]],
      /tokenizer.ggml.model is "t5".*Put the model's tokenizer.json beside the file/,
    ],
    [
      'of an unknown way to find words',
      [
        ['tokenizer.ggml.model', string('gpt2')],
        ['tokenizer.ggml.pre', string('tekken')],
        ['tokenizer.ggml.tokens', strings(['a'])],
      ],
      /tokenizer.ggml.pre is "tekken"/,
    ],
    ['that is not there', [], /tokenizer.ggml.model is undefined/],
  ])('with a tokenizer %s', async (_, metadata, message) => {
    write(metadata)
    await expect(Tokenizer.load(path)).rejects.toThrow(message)
  })
})
