// When a run says that hardly any token of its model reaches a recursion.
import { expect, it } from 'vitest'
import { tellEarlyExits } from '../../../lib/cli/early_exits.js'
import { Output } from '../../../lib/cli/output.js'
import { type ModelConfig, resolveConfig } from '../../../lib/config.js'
import { RecordingStream } from './recording_stream.js'

const shape = { vocab_size: 8, hidden_size: 8, intermediate_size: 8, num_hidden_layers: 5, num_attention_heads: 2 }
const mor = { ...shape, num_recursions: 3, router: { type: 'expert_choice' } } as const

function told(depthHistogram: number[] | null, config: ModelConfig = mor, isTerminal = false): RecordingStream {
  const stream = new RecordingStream(isTerminal)
  const evaluation = { routing: 'threshold', lmLoss: 1, bitsPerByte: 1, tokens: 1000 } as const
  tellEarlyExits(
    resolveConfig(config, 'the model'),
    depthHistogram && { ...evaluation, depthHistogram },
    new Output(stream),
  )
  return stream
}

it('says so where less than a tenth of the share by the capacities goes on', () => {
  expect(told([1000, 0, 0]).records).toEqual([{ type: 'notice', recursion: 2, share: 0, capacity: 2 / 3 }])
  expect(told([940, 50, 10]).records).toEqual([{ type: 'notice', recursion: 2, share: 0.06, capacity: 2 / 3 }])
  const { text } = told([1000, 0, 0], mor, true)
  expect(text).toContain('0.0% of the held-out tokens run recursion 2, and the capacities say 66.7%')
  expect(text).toMatch(/: train longer\n$/)
  const byRank = told([1000, 0, 0], { ...mor, router: { type: 'expert_choice', selection: 'topk' } }, true).text
  expect(byRank).toMatch(/: train longer, with a larger auxiliary_loss_coefficient .* its selection "threshold"\n$/)
})

it('says so of a later recursion, where the tokens stop before that one', () => {
  expect(told([0, 1000, 0]).records).toEqual([{ type: 'notice', recursion: 3, share: 0, capacity: 1 / 3 }])
  expect(told([330, 640, 30]).records).toEqual([{ type: 'notice', recursion: 3, share: 0.03, capacity: 1 / 3 }])
})

it('counts the tokens that run no recursion', () => {
  const half = { ...mor, router: { ...mor.router, capacities: [0.5, 0.5, 0.5] } }
  expect(told([0, 0, 0], half).records).toEqual([{ type: 'notice', recursion: 1, share: 0, capacity: 0.5 }])
  expect(told([0, 0, 40], half).records).toEqual([{ type: 'notice', recursion: 1, share: 0.04, capacity: 0.5 }])
  expect(told([0, 0, 60], half).records).toEqual([])
})

it.each<[string, number[] | null, ModelConfig?]>([
  ['where a tenth of them goes on', [930, 36, 34]],
  [
    'where the capacities say the same',
    [940, 50, 10],
    { ...mor, router: { ...mor.router, capacities: [1, 0.1, 0.05] } },
  ],
  ['of token choice', [1000, 0, 0], { ...mor, router: { type: 'token_choice' } }],
  ['of a model without a router', [1000], { ...mor, router: null }],
  ['without an evaluation', null],
])('says nothing %s', (_, depthHistogram, config) => {
  expect(told(depthHistogram, config).records).toEqual([])
})
