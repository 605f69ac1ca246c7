// Reads what deploy/ holds for Kubernetes.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse, parseAllDocuments } from 'yaml'

export interface Manifest {
  apiVersion: string
  kind: string
}

const folder = join('deploy', 'kubernetes')

/** Every manifest, by the file that holds it. */
export function manifests(): { file: string; manifest: Manifest }[] {
  return readdirSync(folder).flatMap((file) =>
    parseAllDocuments(readFileSync(join(folder, file), 'utf8')).map((document) => ({
      file,
      manifest: document.toJS() as Manifest,
    })),
  )
}

/** The only manifest of a kind. */
export function manifestOf<T>(kind: string): T {
  const found = manifests().filter(({ manifest }) => manifest.kind === kind)
  if (found.length !== 1) throw new Error(`${folder} has ${found.length} manifests of ${kind}; it must have 1`)
  return found[0]!.manifest as T
}

export interface MetricRule {
  seriesQuery: string
  name: { matches: string; as: string }
  metricsQuery: string
}

/** How Prometheus's adapter names the metrics for Kubernetes. */
export function metricRules(): MetricRule[] {
  return parse(readFileSync(join('deploy', 'prometheus-adapter.yaml'), 'utf8')).rules.custom
}
