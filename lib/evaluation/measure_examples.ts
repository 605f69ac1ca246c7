// Log-likelihoods of the choices of examples, and what tasks make of them: accuracy, and the perplexity of last words.
import { setMaxListeners } from 'node:events'
import { throwIfAborted } from '../errors.js'
import type { Tokenizer } from '../tokenizer.js'
import { encodeExample } from './encode.js'
import type { Evaluated } from './evaluated.js'
import type { ExamplesTask, Prompted } from './examples.js'
import { expOf, type Metric, meanOf } from './metrics.js'
import { type Score, Scorer } from './scorer.js'

export interface ExamplesResult {
  examples: number
  /** Tokens that were scored. */
  tokens: number
  /** Sequences of which the beginning was cut off. */
  cut: number
  metrics: Record<string, Metric>
}

/** Examples under way at once: the engine computes them in batches. */
const CONCURRENT = 64

/**
 * Scores the choices of all examples, many at a time.
 * @param onProgress is given the examples that are done, their number, and the tokens that have been scored so far
 * @throws {MorError} as Scorer.score; ABORTED. The first error ends the examples that are under way.
 */
export async function measureExamples(
  { model, tokenizer, routing }: Evaluated,
  task: ExamplesTask,
  examples: readonly Prompted[],
  {
    signal,
    onProgress,
  }: { signal: AbortSignal | undefined; onProgress(done: number, total: number, tokens: number): void },
): Promise<ExamplesResult> {
  throwIfAborted(signal, `task ${task.name}`)
  const scores: Score[][] = Array(examples.length)
  const scorer = new Scorer(model, routing)
  // An example that fails ends the others too.
  const stop = new AbortController()
  setMaxListeners(0, stop.signal) // every example under way listens
  const onAbort = () => stop.abort(signal?.reason)
  signal?.addEventListener('abort', onAbort, { once: true })
  let failure: unknown
  let next = 0
  let done = 0
  const work = async () => {
    while (next < examples.length) {
      const i = next++
      throwIfAborted(stop.signal, `task ${task.name}`)
      scores[i] = await scoreChoices(scorer, tokenizer, examples[i]!, stop.signal)
      onProgress(++done, examples.length, scorer.tokens)
    }
  }
  const workers = Array.from({ length: Math.min(CONCURRENT, examples.length) }, () =>
    work().catch((error) => {
      failure ??= error
      stop.abort(error)
    }),
  )
  await Promise.all(workers)
  signal?.removeEventListener('abort', onAbort)
  await scorer.close()
  if (failure !== undefined) throw failure
  return {
    examples: examples.length,
    tokens: scorer.tokens,
    cut: scorer.cut,
    metrics: metricsOf(task.type, examples, scores),
  }
}

/** The first choice puts the context into the prefix cache; then the others find it there. */
async function scoreChoices(
  scorer: Scorer,
  tokenizer: Tokenizer,
  example: Prompted,
  signal: AbortSignal,
): Promise<Score[]> {
  const [first, ...others] = await encodeExample(tokenizer, example, signal)
  const score = await scorer.score(first!, example.where, signal)
  return [score, ...(await Promise.all(others.map((tokens) => scorer.score(tokens, example.where, signal))))]
}

function metricsOf(
  type: ExamplesTask['type'],
  examples: readonly Prompted[],
  scores: Score[][],
): Record<string, Metric> {
  const share = (right: (example: Prompted, scores: Score[]) => boolean) =>
    meanOf(examples.map((example, i) => (right(example, scores[i]!) ? 1 : 0)))
  switch (type) {
    case 'multiple_choice':
      return {
        accuracy: share(({ gold }, all) => largest(all.map(({ logprob }) => logprob)) === gold),
        accuracyNorm: share(
          ({ gold, choices }, all) => largest(all.map(({ logprob }, i) => logprob / [...choices[i]!].length)) === gold,
        ),
      }
    case 'last_word':
      return {
        accuracy: share((_, [only]) => only!.greedy),
        perplexity: expOf(meanOf(scores.map(([only]) => -only!.logprob))),
      }
    case 'minimal_pairs':
      return { accuracy: share((_, [good, bad]) => good!.logprob > bad!.logprob) }
  }
}

/** The index of the largest value, the first of equal ones. */
function largest(values: readonly number[]): number {
  return values.indexOf(Math.max(...values))
}
