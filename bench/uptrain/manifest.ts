// The runs of the up-training study: a vanilla model becomes a Mixture-of-Recursions model with a third of the tokens
// that one from nothing gets.
import type { ModelConfig } from '../../lib/config.js'
import { fromNothing, recursive, vanillaConfig as smallerConfig, stepsOfEqualFlops } from '../quality/manifest.js'
import type { StudyRun } from '../study/study.js'

/** As deep as that of the quality study, and wider: 8.5M parameters. */
const vanillaConfig: ModelConfig = {
  ...smallerConfig,
  hidden_size: 192,
  intermediate_size: 704,
  num_attention_heads: 3,
  num_key_value_heads: 3,
}
/** 8.2M tokens. */
const vanillaSteps = 2000

/** The vanilla model that all start from. */
const original = fromNothing('vanilla', vanillaConfig, 1, vanillaSteps)

const routed = (n: number): ModelConfig => ({ ...recursive(n, vanillaConfig), router: { type: 'expert_choice' } })

/** The quality study has all initialisations. */
const initialisations = ['stepwise', 'average'] as const
type Initialisation = (typeof initialisations)[number]

const steps = Math.floor(vanillaSteps / 3)
const learningRate = 1e-3
/** The steps in which the capacities fall from 1; that of a converted model is 1000 steps, more than there are. */
const capacityWarmup = ['--capacity-warmup-steps', String(Math.round(steps / 3))]
/** The vanilla model trained on for what the up-training of N = 2 executes. */
const vanillaOnSteps = stepsOfEqualFlops(vanillaConfig, steps, routed(2))
/** Tokens are selected in training as they are in generation. */
const byThreshold = ['--selection', 'threshold']
/** The steps in which the recursions grow from 1 to all. */
const depthSchedule = ['--depth-schedule-steps', String(Math.round(steps / 4))]

export const uptrainRuns: StudyRun[] = [
  original,
  ...initialisations.map((init) => upTrained(2, init, '', {})),
  upTrained(2, 'stepwise', '.auxiliary-loss-0.1', {}, ['--auxiliary-loss', '0.1']),
  ...[2, 3].flatMap((n) => [
    ...(n === 2 ? [] : [upTrained(n, 'stepwise', '', {})]),
    upTrained(n, 'stepwise', '.threshold', {}, byThreshold),
    upTrained(n, 'stepwise', '.threshold.distilled', { teacher: original }, byThreshold),
    upTrained(n, 'stepwise', '.depth', { options: depthSchedule }),
    upTrained(n, 'stepwise', '.distilled', { teacher: original }),
    upTrained(n, 'stepwise', '.distilled.depth', { teacher: original, options: depthSchedule }),
  ]),
  { name: 'vanilla-on', seed: 1, start: { run: original }, steps: vanillaOnSteps, learningRate },
  ...[2, 3].map((n) => fromNothing(`mor-${n}.recursion_wise.tokens`, routed(n), 1, vanillaSteps)),
]

function upTrained(
  n: number,
  init: Initialisation,
  suffix: string,
  further: Pick<StudyRun, 'teacher' | 'options'>,
  router: readonly string[] = [],
): StudyRun {
  const convert = ['--recursions', String(n), '--init', init, '--router', 'expert_choice', ...router]
  return {
    ...further,
    name: `up-${n}.${init}${suffix}`,
    seed: 1,
    start: { run: original, convert },
    steps,
    learningRate,
    options: [...capacityWarmup, ...(further.options ?? [])],
  }
}
