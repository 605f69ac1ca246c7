// The router's part of a configuration: its two kinds, their defaults and their rules.
import { type Checker, show } from './check.js'

/**
 * What a gate g scales: the output of the block, x + g F(x), as in the paper; or its update, x + g (F(x) - x), with which a gate of
 * 1 makes the block what it is without a router (docs/model.md section 3).
 */
export type Gated = 'output' | 'update'

/** Expert-choice: each recursion picks its tokens (paper, section 2.2.1; docs/model.md section 3). */
export interface ExpertChoiceConfig {
  type: 'expert_choice'
  /** Default "sigmoid". */
  activation?: 'sigmoid' | 'tanh'
  /** Default "linear". */
  architecture?: 'linear' | 'mlp'
  /** Scale of the gate. Default 0.1. */
  alpha?: number
  /** What the gate scales; see `Gated`. Default "output". */
  gated?: Gated
  /** Fraction of the full sequence that runs each recursion: N numbers in (0, 1], never rising. Default (N-r+1)/N. */
  capacities?: readonly number[] | null
  /** Default 0.001. With `auxiliary_router` that router alone learns the selection, with coefficient 1. */
  auxiliary_loss_coefficient?: number
  /** Default 0. */
  z_loss_coefficient?: number
  /** Train a second router on detached inputs and route inference by it. Default false. */
  auxiliary_router?: boolean
  /** Optimizer steps over which capacities go from 1 to their value (cosine). Default 0: off. */
  capacity_warmup_steps?: number
  /**
   * How a training step selects the tokens of a recursion: the best of each sequence, which looks at later tokens; or, as generation
   * does, all whose scores reach a running threshold that holds the capacity on average (docs/model.md section 3). Default "threshold",
   * with an auxiliary router "topk".
   */
  selection?: 'topk' | 'threshold'
  /** With selection "threshold": how much of the running threshold a step leaves, at least 0 and less than 1. Default 0.5. */
  threshold_momentum?: number | null
}

/** Token-choice: each token picks its depth (paper, section 2.2.1; docs/model.md section 4). */
export interface TokenChoiceConfig {
  type: 'token_choice'
  /** Default "softmax". */
  activation?: 'softmax' | 'sigmoid'
  /** Default "linear". */
  architecture?: 'linear' | 'mlp'
  /** Scale of the gate. Default 1.0 with softmax, 0.1 with sigmoid. */
  alpha?: number
  /** What the gate scales; see `Gated`. Default "output". */
  gated?: Gated
  /** What keeps the loads of the depths even: a loss, or a bias that is adjusted after each step. Default "loss". */
  balancing?: 'loss' | 'loss_free'
  /** Default 0.1 with balancing "loss"; must be 0 or absent with "loss_free". */
  balancing_loss_coefficient?: number
  /** Default 0.001. */
  z_loss_coefficient?: number
}

export type RouterConfig = ExpertChoiceConfig | TokenChoiceConfig

/**
 * `capacities` is null where the integer rule k_r = max(1, floor((N-r+1) * T / N)) applies, `threshold_momentum` with selection "topk".
 */
export type ResolvedRouterConfig =
  | (Readonly<Required<Omit<ExpertChoiceConfig, 'capacities'>>> & { readonly capacities: readonly number[] | null })
  | Readonly<Required<TokenChoiceConfig>>

const commonKeys = ['type', 'activation', 'architecture', 'alpha', 'gated', 'z_loss_coefficient']
const gatedKinds = ['output', 'update'] as const
const ownKeys = {
  expert_choice: [
    'capacities',
    'auxiliary_loss_coefficient',
    'auxiliary_router',
    'capacity_warmup_steps',
    'selection',
    'threshold_momentum',
  ],
  token_choice: ['balancing', 'balancing_loss_coefficient'],
}
const otherType = { expert_choice: 'token_choice', token_choice: 'expert_choice' } as const

/** @throws {MorError} INVALID_CONFIG with the key, its value and what is allowed. */
export function resolveRouter(check: Checker, recursions: number): ResolvedRouterConfig {
  if (recursions === 1) {
    check.fail('a router needs num_recursions above 1, and it is 1: raise it or set router to null')
  }
  const type = check.choice('type', ['expert_choice', 'token_choice'])
  for (const key of ownKeys[otherType[type]]) {
    if (check.has(key)) check.fail(`${key} belongs to type "${otherType[type]}", and type is "${type}"`)
  }
  check.onlyKeys([...commonKeys, ...ownKeys.expert_choice, ...ownKeys.token_choice])
  return type === 'expert_choice' ? expertChoice(check, recursions) : tokenChoice(check)
}

function expertChoice(check: Checker, recursions: number): ResolvedRouterConfig {
  const auxiliaryRouter = check.boolean('auxiliary_router', false)
  const selection = check.choice('selection', ['topk', 'threshold'], auxiliaryRouter ? 'topk' : 'threshold')
  if (selection === 'topk' && check.has('threshold_momentum')) {
    check.fail('threshold_momentum belongs to selection "threshold", and selection is "topk"')
  }
  const resolved = {
    type: 'expert_choice',
    activation: check.choice('activation', ['sigmoid', 'tanh'], 'sigmoid'),
    architecture: check.choice('architecture', ['linear', 'mlp'], 'linear'),
    alpha: check.float32('alpha', { above: 0, fallback: 0.1 }),
    gated: check.choice('gated', gatedKinds, 'output'),
    capacities: capacities(check, recursions),
    auxiliary_loss_coefficient: check.float32('auxiliary_loss_coefficient', { min: 0, fallback: 0.001 }),
    z_loss_coefficient: check.float32('z_loss_coefficient', { min: 0, fallback: 0 }),
    auxiliary_router: auxiliaryRouter,
    capacity_warmup_steps: check.integer('capacity_warmup_steps', { min: 0, fallback: 0 }),
    selection,
    threshold_momentum:
      selection === 'threshold' ? check.number('threshold_momentum', { min: 0, below: 1, fallback: 0.5 }) : null,
  } as const
  if (selection === 'threshold' && auxiliaryRouter) {
    check.fail(
      'selection is "threshold" and auxiliary_router is true: the router itself decides in generation as in training, ' +
        'so leave auxiliary_router out or set selection to "topk"',
    )
  }
  return resolved
}

function tokenChoice(check: Checker): ResolvedRouterConfig {
  const activation = check.choice('activation', ['softmax', 'sigmoid'], 'softmax')
  const balancing = check.choice('balancing', ['loss', 'loss_free'], 'loss')
  const resolved = {
    type: 'token_choice',
    activation,
    architecture: check.choice('architecture', ['linear', 'mlp'], 'linear'),
    alpha: check.float32('alpha', { above: 0, fallback: activation === 'softmax' ? 1 : 0.1 }),
    gated: check.choice('gated', gatedKinds, 'output'),
    balancing,
    balancing_loss_coefficient: check.float32('balancing_loss_coefficient', {
      min: 0,
      fallback: balancing === 'loss' ? 0.1 : 0,
    }),
    z_loss_coefficient: check.float32('z_loss_coefficient', { min: 0, fallback: 0.001 }),
  } as const
  if (balancing === 'loss_free' && resolved.balancing_loss_coefficient !== 0) {
    check.fail(
      `balancing is "loss_free" but balancing_loss_coefficient is ${resolved.balancing_loss_coefficient}: ` +
        'leave the coefficient out or set balancing to "loss"',
    )
  }
  return resolved
}

function capacities(check: Checker, recursions: number): number[] | null {
  if (!check.has('capacities')) return null
  const values: unknown = check.object.capacities
  if (!Array.isArray(values) || values.length !== recursions) {
    const found = Array.isArray(values) ? `${values.length} numbers` : show(values)
    check.fail(`capacities is ${found}; num_recursions ${recursions} needs an array of ${recursions} numbers`)
  }
  values.forEach((value: unknown, r) => {
    if (typeof value !== 'number' || !(value > 0 && value <= 1)) {
      check.fail(`capacities[${r}] is ${show(value)}; it must be a number > 0 and <= 1`)
    }
    if (r > 0 && value > values[r - 1]) {
      check.fail(`capacities[${r}] is ${value}, above capacities[${r - 1}] ${values[r - 1]}; they may not rise`)
    }
  })
  return [...values]
}
