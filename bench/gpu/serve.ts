// The part `serve`: a Mixture-of-Recursions against vanilla at saturation, with any memory and with equal memory.
import { kvBytesPerToken, resolveConfig } from '../../lib/index.js'
import { idealSpeedUp, meanDepth, workOfModel } from '../serve/shapes.js'
import type { Part } from './part.js'
import { runWorker } from './work.js'
import type { ServeCase, ServeFact } from './work_serve.js'

/** Seconds of one model with both caches. */
const caseSeconds = 150

export async function serve(part: Part): Promise<void> {
  const { report, shapes } = part
  const { requests, cachedSequences } = shapes
  const perSequence =
    (requests.shortest + requests.longest) * kvBytesPerToken(resolveConfig(shapes.serve.vanilla), 'bfloat16')
  // The first one holds all requests at once: memory limits nothing.
  const caches = { any_memory: 1.25 * requests.count * perSequence, equal_memory: cachedSequences * perSequence }
  const found: Partial<Record<string, ServeFact>> = {}
  for (const [name, config] of Object.entries(shapes.serve)) {
    const request: ServeCase = { name, config, requests, caches }
    const job = { work: 'serve', name: `serving ${name}`, seconds: caseSeconds, request } as const
    found[name] = (await runWorker(part, job))[name] as ServeFact | undefined
  }
  const { vanilla, mor_4 } = found
  if (!vanilla || !mor_4) return
  for (const cache of Object.keys(caches)) {
    const { tokensPerSecond, stats } = mor_4[cache]!
    const speedUp = tokensPerSecond / vanilla[cache]!.tokensPerSecond
    const ideal = idealSpeedUp(workOfModel(shapes.serve.mor_4, shapes.serve.vanilla, stats))
    report.figure(`serve_mor_4_${cache}_mean_depth`, [meanDepth(stats)], 'recursions', 'prompts included')
    report.ratio(`serve_mor_4_vs_vanilla_${cache}`, speedUp, 'tokens/s')
    report.ratio(
      `serve_mor_4_of_ideal_${cache}`,
      speedUp / ideal,
      'the ideal follows from passes of layers and the head',
    )
  }
}
