// `convert` and `mor convert` where they cannot do what was asked, or are ended before: the error says what to do, and nothing is
// left that looks like a checkpoint.
import {
  closeSync,
  cpSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { ModelConfig } from '../../../lib/config.js'
import { type ConvertOptions, convert } from '../../../lib/convert.js'
import { Model } from '../../../lib/model.js'
import { buildSafetensorsHeader, readSafetensorsFile, type TensorInfo } from '../../../lib/safetensors.js'
import { mor, morProcess } from '../cli/process.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const folder = mkdtempSync(join(tmpdir(), 'mor-convert-failures-'))
afterAll(() => rmSync(folder, { recursive: true }))
const vanilla = join(folder, 'vanilla')
const changed = join(folder, 'changed')
const output = join(folder, 'output')

/** An empty folder of this machine that is a mount point, as a volume of a container is. */
const emptyMount = readFileSync('/proc/self/mountinfo', 'utf8')
  .split('\n')
  .map((line) => line.split(' ')[4]!)
  .find((path) => {
    try {
      return readdirSync(path).length === 0
    } catch {
      return false
    }
  })

const config: ModelConfig = {
  vocab_size: 16,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 7,
  num_attention_heads: 2,
}

beforeAll(async () => {
  await using model = await Model.create(config, { device: 'cpu', dtype: 'float32' })
  await model.save(vanilla)
})

beforeEach(() => {
  for (const path of [changed, output]) rmSync(path, { recursive: true, force: true })
  cpSync(vanilla, changed, { recursive: true })
})

const left = () => readdirSync(folder).filter((name) => name.startsWith('output'))

async function failure(options: Partial<ConvertOptions> = {}, source = changed): Promise<string> {
  const before = left()
  const error = await convert(source, { output, recursions: 2, sharing: 'cycle', layers: 6, ...options }).then(
    () => new Error('it succeeded'),
    (reason) => reason,
  )
  expect(left()).toEqual(before)
  return `${error.code}: ${error.message}`
}

function changeConfig(changes: object): void {
  const path = join(changed, 'config.json')
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...changes }))
}

/** Writes the weights again with other names, shapes or dtypes; all values are 0. */
async function changeTensors(change: (tensors: TensorInfo[]) => TensorInfo[]): Promise<void> {
  const path = join(changed, 'model.safetensors')
  const { tensors } = await readSafetensorsFile(path)
  const changedTensors = change(tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })))
  writeSparse(path, changedTensors)
}

function writeSparse(path: string, tensors: TensorInfo[]): void {
  const width = { F32: 4, F16: 2, BF16: 2, I8: 1 } as Record<string, number>
  const header = buildSafetensorsHeader(tensors)
  const file = openSync(path, 'w')
  writeSync(file, header)
  const size = tensors.reduce(
    (sum, { dtype, shape }) => sum + shape.reduce((n, extent) => n * extent, width[dtype]!),
    0,
  )
  ftruncateSync(file, header.length + size)
  closeSync(file)
}

describe('what was asked', () => {
  it.each<[string, Partial<ConvertOptions>, RegExp]>([
    [
      'a depth that N does not divide',
      { layers: 7 },
      /INVALID_CONFIG: .*layers.*num_hidden_layers 7 does not divide.*6 or 8/,
    ],
    ['the same with middle layers', { layers: 7, sharing: 'middle_cycle' }, /nearest valid num_hidden_layers: 6 or 8/],
    ['more layers than there are', { layers: 16 }, /INVALID_ARGUMENT: the source has 7 layers, fewer than the 8/],
    [
      'a router on layers that repeat in place',
      { sharing: 'sequence', router: { type: 'expert_choice' } },
      /"cycle" or "middle_cycle"/,
    ],
    [
      'a router without recursion',
      { recursions: 1, layers: 7, sharing: undefined, router: { type: 'expert_choice' } },
      /above 1/,
    ],
    ['gates that start at 0', { router: { type: 'expert_choice', activation: 'tanh' } }, /make it "sigmoid"/],
    ['an unknown option', { recursion: 2 } as object, /unknown key "recursion" \(did you mean "recursions"\?\)/],
    ['another dtype', { dtype: 'int8' as never }, /"int8"; it must be "float32"/],
    [
      'init without recursion',
      { recursions: 1, layers: 7, sharing: undefined, init: 'average' },
      /init is "average", but recursions is 1.*: give more recursions, or leave init out/,
    ],
    [
      'sharing without recursion',
      { recursions: 1, layers: 7, sharing: 'cycle' },
      /sharing is "cycle", but recursions is 1.*: give more recursions, or leave sharing out/,
    ],
    [
      'a policy of keys and values without recursion',
      { recursions: 1, layers: 7, sharing: undefined, kvCache: 'recursion_wise' },
      /kvCache is "recursion_wise", but recursions is 1.*: give more recursions, or leave kvCache out/,
    ],
    ['init and keep', { init: 'lower', keep: [0, 1, 2] }, /leave one of them out/],
    ['layers that are not there', { keep: [0, 1, 7] }, /numbers from 0 to 6/],
    ['no output', { output: '' }, /output is ""; it must be a path/],
  ])('%s', async (_, options, message) => {
    expect(await failure(options)).toMatch(message)
  })

  it.each([2, 3, 4])(
    'a depth that N = %i does not divide: the nearest below and above are named, and valid',
    async (n) => {
      for (const sharing of ['cycle', 'sequence', 'middle_cycle', 'middle_sequence'] as const) {
        const unshared = sharing.startsWith('middle') ? 2 : 0
        const valid = Array.from({ length: 5 }, (_, i) => unshared + n * (i + 1))
        for (const layers of [1, 5, 7, 9].filter((depth) => !valid.includes(depth))) {
          const nearest = [valid.findLast((depth) => depth < layers), valid.find((depth) => depth > layers)!]
          const named = nearest.filter((depth) => depth !== undefined)
          expect(await failure({ recursions: n, sharing, layers })).toMatch(
            new RegExp(
              `num_hidden_layers ${layers} does not divide.*nearest valid num_hidden_layers: ${named.join(' or ')}$`,
            ),
          )
          for (const depth of named) {
            await convert(changed, { output, recursions: n, sharing, layers: depth })
            rmSync(output, { recursive: true })
          }
        }
      }
    },
  )

  it('an output that is there', async () => {
    mkdirSync(output)
    writeFileSync(join(output, 'notes.txt'), 'mine')
    expect(await failure()).toMatch(/INVALID_ARGUMENT: .* is there already, with notes.txt in it: give another output/)
    expect(readFileSync(join(output, 'notes.txt'), 'utf8')).toBe('mine')
  })

  it('an empty folder where a GGUF file is to be', async () => {
    const folder = `${output}.gguf`
    mkdirSync(folder)
    await expect(convert(changed, { output: folder, recursions: 2 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/\.gguf is a folder, but a file is to be made: give the file's name/),
    })
    rmSync(folder, { recursive: true })
  })

  it.skipIf(emptyMount === undefined)('an empty folder where something is mounted', async () => {
    await expect(convert(changed, { output: emptyMount!, recursions: 2 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: `${emptyMount} is a mount point, which cannot be replaced: give ${emptyMount}/model, say`,
    })
  })
})

describe('the source', () => {
  it('is not there, or has no weights', async () => {
    expect(await failure({}, join(folder, 'nowhere'))).toMatch(/CHECKPOINT_MISSING: .*config.json is missing/)
    rmSync(join(changed, 'model.safetensors'))
    expect(await failure()).toMatch(/CHECKPOINT_MISSING: no weights/)
  })

  it.each([
    ['qwen2_moe', /"qwen2_moe"; it must be .*did you mean "qwen2"/],
    ['llama4', /did you mean "llama"/],
    ['mixtral', /did you mean "mistral"/],
    ['gemma3', /it must be "llama" or "mistral" or "qwen2" or "qwen3" or "mor"/],
  ])('is of another architecture: %s', async (model_type, message) => {
    changeConfig({ model_type, architectures: undefined })
    expect(await failure()).toMatch(message)
  })

  it('lacks tensors and has others', async () => {
    await changeTensors((tensors) => [
      ...tensors.filter(({ name }) => !name.startsWith('model.layers.6.')),
      { name: 'model.extra.weight', dtype: 'F32', shape: [2] },
    ])
    expect(await failure()).toMatch(
      /CHECKPOINT_INVALID: .*9 missing \(model.layers.6.input_layernorm.weight.*1 unexpected \(model.extra/,
    )
  })

  it('has tensors of another dtype or shape', async () => {
    await changeTensors((tensors) => tensors.map((tensor) => ({ ...tensor, dtype: 'I8' })))
    expect(await failure()).toMatch(/unfit \(.* is I8 and must be F32, BF16 or F16/)
    await changeTensors((tensors) =>
      tensors.map((tensor) => ({ ...tensor, dtype: 'F32', shape: [...tensor.shape, 1] })),
    )
    expect(await failure()).toMatch(/unfit \(.*\[16,8,1\] and must be \[16,8\]/)
  })

  it('has values that the dtype cannot hold', async () => {
    await using model = await Model.create({ ...config, initializer_range: 1e6 }, { device: 'cpu', dtype: 'float32' })
    await model.save(changed)
    expect(await failure({ dtype: 'float16' })).toMatch(
      /CHECKPOINT_INVALID: model.*holds .*, and the largest value of F16 is 65504/,
    )
  })

  it.each(['float32', 'bfloat16'] as const)('has %s values that are NaN or infinite', async (dtype) => {
    await (await Model.load(vanilla, { device: 'cpu', dtype })).save(changed)
    const path = join(changed, 'model.safetensors')
    const { tensors } = await readSafetensorsFile(path)
    const bytes = readFileSync(path)
    const width = dtype === 'float32' ? 4 : 2
    const setBits = (name: string, element: number, top: number) => {
      const { offset } = tensors.find((tensor) => tensor.name === name)!
      bytes.writeUInt16LE(top, offset + (element + 1) * width - 2)
    }
    for (const [element, top] of [0x7fc0, 0x7f80, 0xff80].entries())
      setBits('model.layers.6.mlp.up_proj.weight', element, top)
    writeFileSync(path, bytes)
    // As they are, in another dtype, and as a part of a mean.
    const ways: Partial<ConvertOptions>[] = [
      {},
      { dtype: 'float16' },
      { init: 'average' },
      { recursions: 1, layers: 7, sharing: undefined, output: `${output}.gguf` },
    ]
    for (const options of ways) {
      expect(await failure(options)).toMatch(
        `CHECKPOINT_INVALID: ${path}: 3 of the 96 values of model.layers.6.mlp.up_proj.weight are NaN or infinite`,
      )
    }
    // A layer that the new model does not have does not matter.
    await convert(changed, { output, recursions: 2, sharing: 'cycle', layers: 6, init: 'lower' })
  })

  const bpe = (vocab: object) => ({ model: { type: 'BPE', vocab, merges: [] } })
  it.each<[string, (last: number) => object, string]>([
    ['a token', (last) => bpe({ a: 0, b: last }), 'the token "b"'],
    [
      'an added token',
      (last) => ({ ...bpe({ a: 0 }), added_tokens: [{ id: last, content: '<pad>' }] }),
      'the added token "<pad>"',
    ],
    [
      'a piece of Unigram',
      (last) => ({ model: { type: 'Unigram', vocab: Array.from({ length: last + 1 }, (_, i) => [`piece${i}`, 0]) } }),
      'the token "piece16"',
    ],
  ])('has a tokenizer with an id that the model does not have: %s', async (_, tokenizerUpTo, token) => {
    const path = join(changed, 'tokenizer.json')
    writeFileSync(path, JSON.stringify(tokenizerUpTo(16)))
    expect(await failure()).toMatch(
      `CHECKPOINT_INVALID: ${token} of ${path} has the id 16, but vocab_size of the model is 16, so that ids end at 15: give the model`,
    )
    writeFileSync(path, JSON.stringify(tokenizerUpTo(15)))
    await convert(changed, { output, recursions: 2, sharing: 'cycle', layers: 6 })
  })

  it('has a tokenizer that is damaged, also beside a GGUF file', async () => {
    const file = join(changed, 'model.gguf')
    await convert(vanilla, { output: file })
    writeFileSync(join(changed, 'tokenizer.json'), '{"model":')
    expect(await failure()).toMatch(/CHECKPOINT_INVALID: .*tokenizer.json is not JSON/)
    writeFileSync(join(changed, 'tokenizer.json'), '{"model":{"vocab":{"a":1.5}}}')
    expect(await failure()).toMatch(/CHECKPOINT_INVALID: .*tokenizer.json.*vocab gives "a" the id 1.5/)
    writeFileSync(join(changed, 'tokenizer.json'), JSON.stringify(bpe({ a: 16 })))
    expect(await failure({}, file)).toMatch(/the token "a" of .*tokenizer.json has the id 16/)
  })

  it('is recursive already', async () => {
    await convert(vanilla, { output, recursions: 2, sharing: 'cycle', layers: 6 })
    expect(await failure({ output: `${output}-2` }, output)).toMatch(
      /INVALID_ARGUMENT: .*a model of 2 recursions: only a vanilla model/,
    )
  })
})

describe('the disk', () => {
  it('has not enough room: that is known before anything is written', async () => {
    // 4 TiB, of which the disk stores only the header.
    const huge = { ...config, vocab_size: 2 ** 25, hidden_size: 2 ** 15, num_hidden_layers: 2, head_dim: 2 }
    const tensors: TensorInfo[] = [{ name: 'model.embed_tokens.weight', dtype: 'F32', shape: [2 ** 25, 2 ** 15] }]
    const [d, f, q] = [2 ** 15, 12, 4]
    for (const u of [0, 1]) {
      const shapes = {
        input_layernorm: [d],
        post_attention_layernorm: [d],
        'self_attn.q_proj': [q, d],
        'self_attn.k_proj': [q, d],
        'self_attn.v_proj': [q, d],
        'self_attn.o_proj': [d, q],
        'mlp.gate_proj': [f, d],
        'mlp.up_proj': [f, d],
        'mlp.down_proj': [d, f],
      }
      for (const [name, shape] of Object.entries(shapes))
        tensors.push({ name: `model.layers.${u}.${name}.weight`, dtype: 'F32', shape })
    }
    tensors.push({ name: 'model.norm.weight', dtype: 'F32', shape: [d] })
    writeSparse(join(changed, 'model.safetensors'), tensors)
    writeFileSync(
      join(changed, 'config.json'),
      JSON.stringify({ ...huge, model_type: 'llama', tie_word_embeddings: true }),
    )
    expect(await failure({ layers: 2 })).toMatch(
      /IO_ERROR: .*output takes 4398\d+ bytes, and its disk has \d+ left; free some space/,
    )
  })
})

describe('an end before the end', () => {
  it('by a signal that has aborted', async () => {
    expect(await failure({ signal: AbortSignal.abort() })).toMatch(/^ABORTED/)
  })

  it('by an abort while it writes', async () => {
    const controller = new AbortController()
    setImmediate(() => controller.abort())
    expect(await failure({ signal: controller.signal })).toMatch(/^ABORTED/)
  })

  it('by SIGKILL: the target is not there, and the next run removes what was left and finishes', async () => {
    // Large enough to be met in the middle.
    const large = join(folder, 'large')
    await using model = await Model.create(
      { ...config, vocab_size: 65536, hidden_size: 512 },
      { device: 'cpu', dtype: 'float32' },
    )
    await model.save(large)
    const args = ['convert', large, output, '--recursions', '2', '--sharing', 'cycle', '--layers', '6']
    const { code } = await morProcess(args, (child) => {
      const timer = setInterval(() => {
        const started = left().find((name) =>
          readdirSync(join(folder, name)).some((each) => each.startsWith('.saving')),
        )
        if (started !== undefined) child.kill('SIGKILL')
      }, 1)
      child.once('exit', () => clearInterval(timer))
    })
    expect(code).not.toBe(0)
    expect(existsSync(output)).toBe(false)
    expect(left()).toHaveLength(1)
    const again = await mor(...args)
    expect(again.stderr).toBe('')
    expect(left()).toEqual(['output'])
    expect(statSync(join(output, 'model.safetensors')).size).toBeGreaterThan(65536 * 512 * 4)
  })
})

it('mor convert says what it made', async () => {
  const { code, stdout } = await mor(
    'convert',
    vanilla,
    output,
    '--recursions',
    '2',
    '--layers',
    '6',
    '--router',
    'token_choice',
    '--keep',
    '0,2,4,6',
  )
  expect(code).toBe(0)
  expect(JSON.parse(stdout)).toMatchObject({ type: 'convert', kind: 'mor', layers: [[0], [2], [4], [6]] })
  expect((await mor('inspect', output)).stdout).toContain('"kind":"mor"')
})

it('mor convert gives an expert-choice router its options, and no other one', async () => {
  const args = ['convert', vanilla, output, '--recursions', '2', '--layers', '6']
  const options = ['--selection', 'threshold', '--auxiliary-loss', '0.1']
  const { code, stderr } = await mor(...args, '--router', 'token_choice', ...options)
  expect(code).toBe(1)
  expect(stderr).toContain('--router is token_choice: --selection and --auxiliary-loss are options of expert_choice')
  expect(existsSync(output)).toBe(false)
  expect((await mor(...args, '--router', 'expert_choice', ...options)).code).toBe(0)
  const { router } = JSON.parse(readFileSync(join(output, 'config.json'), 'utf8'))
  expect(router).toMatchObject({ selection: 'threshold', auxiliary_loss_coefficient: 0.1 })
})
