// The runs of the up-training study: a vanilla model becomes a Mixture-of-Recursions model with a third of the tokens
// that one from nothing gets.
import type { ModelConfig } from '../../lib/config.js'
import {
  byThreshold,
  fromNothing,
  recursive,
  vanillaConfig as smallerConfig,
  stepsOfEqualFlops,
  upTrained,
  uptrainLearningRate,
  uptrainSteps,
} from '../quality/manifest.js'
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

const routed = (n: number): ModelConfig => ({
  ...recursive(n, vanillaConfig),
  router: { type: 'expert_choice', selection: 'topk' },
})

const steps = uptrainSteps(original)
/** The vanilla model trained on for what the up-training of N = 2 executes. */
const vanillaOnSteps = stepsOfEqualFlops(vanillaConfig, steps, routed(2))
/** The steps in which the recursions grow from 1 to all. */
const depthSchedule = ['--depth-schedule-steps', String(Math.round(steps / 4))]
const byTopk = ['--selection', 'topk']
const auxiliaryLoss = [...byTopk, '--auxiliary-loss', '0.1']

/** The quality study has all initialisations. */
export const uptrainRuns: StudyRun[] = [
  original,
  ...['stepwise', 'average'].map((init) => upTrained(original, 2, init, byTopk)),
  upTrained(original, 2, 'stepwise', auxiliaryLoss, { suffix: '.auxiliary-loss-0.1' }),
  ...[2, 3].flatMap((n) => {
    const stepwise = (suffix: string, router: readonly string[], further: Pick<StudyRun, 'teacher' | 'options'>) =>
      upTrained(original, n, 'stepwise', router, { suffix, ...further })
    return [
      ...(n === 2 ? [] : [stepwise('', byTopk, {})]),
      stepwise('.threshold', byThreshold, {}),
      stepwise('.threshold.distilled', byThreshold, { teacher: original }),
      stepwise('.depth', byTopk, { options: depthSchedule }),
      stepwise('.distilled', byTopk, { teacher: original }),
      stepwise('.distilled.depth', byTopk, { teacher: original, options: depthSchedule }),
    ]
  }),
  { name: 'vanilla-on', seed: 1, start: { run: original }, steps: vanillaOnSteps, learningRate: uptrainLearningRate },
  ...[2, 3].map((n) => fromNothing(`mor-${n}.recursion_wise.tokens`, routed(n), 1, vanillaSteps)),
]
