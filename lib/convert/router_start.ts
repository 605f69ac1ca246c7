// With which router a model starts that is made of one without: the options that leave its first output as it is, and the tensors
// that go with them (docs/model.md section 10).
import type { ResolvedConfig } from '../config.js'
import type { RouterConfig } from '../config_router.js'
import type { NativeDerivedTensor } from '../native/files.js'
import type { NativeParameter } from '../native/model.js'

/** Steps in which the capacities of expert choice fall to their values, where the router does not say. */
const WARMUP_STEPS = 1000
/** One step of loss-free balancing: depth N is chosen at first, and the others can catch up with it. */
const BIAS = 0.001

/** `given` with the options under which every gate is 1 at first, where it does not say otherwise. */
export function startingRouter(given: RouterConfig, recursions: number): RouterConfig {
  const said = Object.entries(given).filter(([, value]) => (value ?? null) !== null)
  const router = Object.fromEntries(said) as unknown as RouterConfig
  if (router.type === 'expert_choice') {
    return { alpha: 2, gated: 'update', capacity_warmup_steps: WARMUP_STEPS, ...router }
  }
  const balancing = router.balancing_loss_coefficient ? 'loss' : 'loss_free'
  const alpha = router.activation === 'sigmoid' ? 2 : recursions
  return { alpha, gated: 'update', balancing, ...router }
}

/** The elements of a router's tensor at the start. `stream` numbers the tensor among those of the model. */
export function routerElements(
  { name, shape }: NativeParameter,
  config: ResolvedConfig,
  stream: number,
): Pick<NativeDerivedTensor, 'values' | 'normal'> {
  if (name.endsWith('.balancing_bias')) {
    const values = new Float32Array(shape[0]!)
    values[values.length - 1] = BIAS
    return { values }
  }
  // The second matrix is 0, so that every score is, and learns through what the first one gives it.
  return name.endsWith('.fc1.weight') ? { normal: { deviation: config.initializer_range, stream } } : {}
}
