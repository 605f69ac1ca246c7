// The runs of the up-training study: a vanilla model becomes a Mixture-of-Recursions model with a third of the tokens
// that one from nothing gets.
import {
  expertChoice,
  recursive,
  stepsOfEqualFlops,
  vanilla,
  vanillaConfig,
  vanillaSteps,
} from '../quality/manifest.js'
import type { StudyRun } from '../study/study.js'

const initialisations = ['stepwise', 'average', 'lower', 'upper'] as const
type Initialisation = (typeof initialisations)[number]

/** The vanilla model that all start from. */
export const original = vanilla(1)
/** The models from nothing that they are compared with. */
export const fromNothing = [2, 3].map((n) => expertChoice(n, 'recursion_wise', 'tokens', 1))

const steps = Math.floor(vanillaSteps / 3)
const learningRate = 1e-3
/** The steps in which the capacities fall from 1; that of a converted model is 1000 steps, more than there are. */
const capacityWarmup = ['--capacity-warmup-steps', String(Math.round(steps / 3))]
/** The vanilla model trained on for what the up-training of N = 2 executes. */
const vanillaOnSteps = stepsOfEqualFlops(vanillaConfig, steps, { ...recursive(2), router: { type: 'expert_choice' } })
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
  ...fromNothing,
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
