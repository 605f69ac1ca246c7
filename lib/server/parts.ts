// What the handlers of one server have in common.
import type { Admission } from './admission.js'
import type { ServerMetrics } from './metrics.js'
import type { ResolvedServerOptions } from './options.js'
import type { Outbox } from './outbox.js'

export interface ServerParts {
  options: ResolvedServerOptions
  admission: Admission
  metrics: ServerMetrics
  /** Of all streams. */
  outbox: Outbox
}
