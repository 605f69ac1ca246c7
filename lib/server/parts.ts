// What the handlers of one server have in common.
import type { Admission } from './admission.js'
import type { ServerMetrics } from './metrics.js'
import type { FixedOptions } from './options.js'
import type { Outbox } from './outbox.js'
import type { ServedModels } from './served_models.js'
import type { RequestTraces } from './traces.js'

export interface ServerParts {
  /** Those that stay the same when the model is replaced. */
  options: FixedOptions
  models: ServedModels
  /** Null: no traces are made. */
  traces: RequestTraces | null
  admission: Admission
  metrics: ServerMetrics
  /** Of all streams. */
  outbox: Outbox
}
