// Parameter groups: which tensors a pattern takes, what they get, and the groups that are refused.
import { describe, expect, it } from 'vitest'
import {
  checkSameFrozen,
  holdsRouterState,
  parameterOptions,
  resolveParameterGroups,
} from '../../lib/parameter_groups.js'

const names = [
  'model.embed_tokens.weight',
  'model.layers.0.mlp.up_proj.weight',
  'model.layers.1.mlp.up_proj.weight',
  'model.layers.10.mlp.up_proj.weight',
  'model.norm.weight',
]
const parameters = [
  ...names.map((name) => ({ name, trained: true })),
  { name: 'model.router.balancing_bias', trained: false },
]
const optionsOf = (groups: unknown, learningRate = 0.5) =>
  parameterOptions(resolveParameterGroups(groups), learningRate, parameters)
const refused = (groups: unknown, message: RegExp, learningRate?: number) =>
  expect(() => optionsOf(groups, learningRate)).toThrow(
    expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) }),
  )

describe('groups', () => {
  it('take the tensors whose names match', () => {
    const takes = (pattern: string) => optionsOf([{ pattern, weightDecay: 1 }]).map(({ name }) => name)
    expect(takes('model.layers.1.*')).toEqual([names[2]])
    expect(takes('model.layers.1*')).toEqual([names[2], names[3]])
    expect(takes('*up_proj*')).toEqual([names[1], names[2], names[3]])
    expect(takes('model.norm.weight')).toEqual([names[4]])
    expect(takes('*')).toEqual(names)
  })

  it('give a rate as a factor of that of the trainer, and what they say', () => {
    const groups = [
      { pattern: 'model.norm*', learningRate: 0.25 },
      { pattern: 'model.embed*', frozen: true },
      { pattern: 'model.layers.10.*', learningRate: 0, weightDecay: 0.5 },
    ]
    expect(optionsOf(groups)).toEqual([
      { name: names[4], learningRateScale: 0.5, weightDecay: undefined, frozen: false },
      { name: names[0], learningRateScale: undefined, weightDecay: undefined, frozen: true },
      { name: names[3], learningRateScale: 0, weightDecay: 0.5, frozen: false },
    ])
  })

  it('freeze what steps adjust of a router without gradients, where they match it', () => {
    const holds = (groups: unknown) => holdsRouterState(resolveParameterGroups(groups), parameters)
    expect(holds([{ pattern: 'model.router.*', frozen: true }])).toBe(true)
    expect(optionsOf([{ pattern: 'model.router.*', frozen: true }])).toEqual([])
    expect(holds([{ pattern: 'model.norm*', frozen: true }])).toBe(false)
    expect(holds([{ pattern: '*', weightDecay: 1 }])).toBe(false)
  })

  it('are refused where they do not fit the model', () => {
    refused(
      [{ pattern: 'model.layer.*', frozen: true }],
      /parameterGroups\[0\]: no trained tensor matches "model.layer.\*"; they are named like model.embed_tokens.weight, model.layers.\*.mlp.up_proj.weight, model.norm.weight$/,
    )
    refused([{ pattern: '*balancing_bias', weightDecay: 0 }], /no trained tensor matches/)
    refused(
      [
        { pattern: '*mlp*', frozen: true },
        { pattern: 'model.layers.1.*', weightDecay: 0 },
      ],
      /parameterGroups\[1\]: "model.layers.1.\*" and "\*mlp\*" both match model.layers.1.mlp.up_proj.weight/,
    )
    refused([{ pattern: '*', frozen: true }], /freezes every tensor, so nothing would be trained/)
    refused([{ pattern: '*norm*', learningRate: 1 }], /learningRate is 1, and that of the trainer 0/, 0)
  })

  it('are refused where they say nothing or two things', () => {
    refused([{ pattern: '', frozen: true }], /parameterGroups\[0\]: pattern is ""/)
    refused([{ pattern: '*' }], /nothing is given for its tensors/)
    refused([{ pattern: '*', frozen: false }], /nothing is given for its tensors/)
    refused([{ pattern: '*', frozen: true, learningRate: 1 }], /frozen is true and learningRate is given/)
    refused([{ pattern: '*', learningRate: -1 }], /learningRate is -1; it must be a finite number >= 0/)
    refused([{ pattern: '*', lr: 1 }], /unknown key "lr"/)
    refused([7], /parameterGroups\[0\] is 7; it must be an object/)
  })
})

it('names a tensor whose freezing changes', () => {
  const frozen = [{ pattern: '*embed*', frozen: true }]
  const other = [
    { pattern: 'model.embed*', frozen: true },
    { pattern: '*norm*', weightDecay: 1 },
  ]
  expect(() => checkSameFrozen(frozen, other, parameters)).not.toThrow()
  const thrown = (before: typeof frozen, after: typeof frozen, message: RegExp) =>
    expect(() => checkSameFrozen(before, after, parameters)).toThrow(message)
  thrown(frozen, [], /model.embed_tokens.weight was frozen and is to be trained/)
  thrown([], frozen, /model.embed_tokens.weight was trained and is to be frozen/)
})
