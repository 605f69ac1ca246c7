// Parameter groups of a Trainer: which tensors have a learning rate or weight decay of their own, or are frozen.
import { Checker, show } from './check.js'
import { MorError } from './errors.js'
import type { NativeParameter } from './native/model.js'
import type { NativeParameterOptions } from './native/trainer.js'

/** What a trainer does differently with some tensors. */
export interface ParameterGroup {
  /** Of names as in the checkpoint; `*` stands for any characters, dots included: `model.layers.*.mlp.*`. */
  pattern: string
  /** Peak learning rate, in place of the trainer's; the schedule multiplies it alike. */
  learningRate?: number
  /** In place of the trainer's; a group that has it decays whole, norms and biases included. */
  weightDecay?: number
  /**
   * The tensors stay as they are, cost no optimizer state, and their gradients do not count in the norm. Of a router also the running
   * thresholds and the bias of loss-free balancing, which a step adjusts without gradients, where the pattern matches them.
   */
  frozen?: boolean
}

/** @throws {MorError} INVALID_ARGUMENT with the group and what is allowed */
export function resolveParameterGroups(groups: unknown): readonly ParameterGroup[] {
  if (!Array.isArray(groups)) {
    throw new MorError('INVALID_ARGUMENT', `Trainer: parameterGroups is ${show(groups)}; it must be an array`)
  }
  return groups.map((group, i) => {
    const check = Checker.of(group, `Trainer: parameterGroups[${i}]`)
    check.onlyKeys(['pattern', 'learningRate', 'weightDecay', 'frozen'])
    const { pattern } = check.object
    if (typeof pattern !== 'string' || pattern === '') {
      check.fail(`pattern is ${show(pattern)}; it must be the name of a tensor, in which * stands for any characters`)
    }
    const frozen = check.boolean('frozen', false)
    const own = ['learningRate', 'weightDecay'].filter((key) => check.has(key))
    if (frozen && own.length > 0) check.fail(`frozen is true and ${own[0]} is given: leave one of them out`)
    if (!frozen && own.length === 0) check.fail('nothing is given for its tensors: learningRate, weightDecay or frozen')
    return {
      pattern: pattern as string,
      ...Object.fromEntries(own.map((key) => [key, check.float32(key, { min: 0 })])),
      ...(frozen ? { frozen } : {}),
    }
  })
}

/**
 * One entry for each tensor that belongs to a group.
 * @param learningRate the trainer's
 * @throws {MorError} INVALID_ARGUMENT for a pattern without a tensor, a tensor in two groups, or if nothing would be trained
 */
export function parameterOptions(
  groups: readonly ParameterGroup[],
  learningRate: number,
  parameters: readonly Pick<NativeParameter, 'name' | 'trained'>[],
): NativeParameterOptions[] {
  const names = parameters.filter(({ trained }) => trained).map(({ name }) => name)
  const groupOf = new Map<string, ParameterGroup>()
  for (const [i, group] of groups.entries()) {
    const where = new Checker({}, `Trainer: parameterGroups[${i}]`)
    const matches = names.filter(matcher(group.pattern))
    if (matches.length === 0 && !holdsRouterState([group], parameters)) {
      where.fail(`no trained tensor matches ${show(group.pattern)}; they are named like ${examples(names).join(', ')}`)
    }
    if (group.learningRate !== undefined && learningRate === 0) {
      where.fail(`learningRate is ${group.learningRate}, and that of the trainer 0: freeze the other tensors instead`)
    }
    for (const name of matches) {
      const other = groupOf.get(name)
      if (other !== undefined) where.fail(`${show(group.pattern)} and ${show(other.pattern)} both match ${name}`)
      groupOf.set(name, group)
    }
  }
  if (names.length > 0 && names.every((name) => groupOf.get(name)?.frozen)) {
    throw new MorError('INVALID_ARGUMENT', 'Trainer: parameterGroups freezes every tensor, so nothing would be trained')
  }
  return [...groupOf].map(([name, group]) => ({
    name,
    learningRateScale: group.learningRate === undefined ? undefined : group.learningRate / learningRate,
    weightDecay: group.weightDecay,
    frozen: group.frozen ?? false,
  }))
}

/** Whether a group freezes what a step adjusts of a router without gradients. A model has one such tensor at most. */
export function holdsRouterState(
  groups: readonly ParameterGroup[],
  parameters: readonly Pick<NativeParameter, 'name' | 'trained'>[],
): boolean {
  const names = parameters.filter(({ trained }) => !trained).map(({ name }) => name)
  return groups.some(({ frozen, pattern }) => frozen && names.some(matcher(pattern)))
}

/**
 * Moments are kept of what is trained, so what is frozen cannot change in a run that goes on.
 * @throws {MorError} INVALID_ARGUMENT naming the tensor
 */
export function checkSameFrozen(
  before: readonly ParameterGroup[],
  after: readonly ParameterGroup[],
  parameters: readonly Pick<NativeParameter, 'name' | 'trained'>[],
): void {
  const names = parameters.map(({ name }) => name)
  const frozenBy = (groups: readonly ParameterGroup[]) => {
    const matchers = groups.filter(({ frozen }) => frozen).map(({ pattern }) => matcher(pattern))
    return (name: string) => matchers.some((matches) => matches(name))
  }
  const [then, now] = [frozenBy(before), frozenBy(after)]
  const changed = names.find((name) => then(name) !== now(name))
  if (changed === undefined) return
  const change = then(changed) ? 'was frozen and is to be trained' : 'was trained and is to be frozen'
  throw new MorError(
    'INVALID_ARGUMENT',
    `Trainer: parameterGroups: ${changed} ${change}, and that cannot change in a run that goes on; start a new one`,
  )
}

function matcher(pattern: string): (name: string) => boolean {
  const parts = pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
  const expression = new RegExp(`^${parts.join('.*')}$`)
  return (name) => expression.test(name)
}

/** One name of each kind: numbers of layers and recursions do not count. */
function examples(names: readonly string[]): string[] {
  const kinds = new Map(names.map((name) => [name.replace(/\.\d+\./g, '.*.'), name]))
  return [...kinds.keys()]
}
