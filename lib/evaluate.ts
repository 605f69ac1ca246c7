// evaluate(): measures a model by tasks, one after another.
import { setMaxListeners } from 'node:events'
import { Checker } from './check.js'
import { MorError, throwIfAborted } from './errors.js'
import { encodeExample } from './evaluation/encode.js'
import { type ExamplesTask, type Prompted, readExamples } from './evaluation/examples.js'
import { expOf, type Metric, meanOf } from './evaluation/metrics.js'
import { checkTexts, measurePerplexity } from './evaluation/perplexity.js'
import { type RoutingOptions, type Score, Scorer } from './evaluation/scorer.js'
import { checkTask, type EvaluationTask } from './evaluation/tasks.js'
import { resolvePassOptions } from './forward.js'
import { mapInOrder } from './map_in_order.js'
import type { Model } from './model.js'
import { ModelText } from './model_text.js'
import type { Routing } from './native.js'
import { checkVocabulary } from './tokenizer/vocabulary.js'
import type { Tokenizer } from './tokenizer.js'

export interface EvaluationProgress {
  task: string
  /** Examples that are done, or documents that have been read. */
  done: number
  /** Null where it is not known: of documents, which are read as they come. */
  total: number | null
  /** Tokens that have been scored. */
  tokens: number
}

export interface EvaluationOptions extends RoutingOptions {
  /** Default: that of the model. */
  tokenizer?: Tokenizer
  onProgress?(progress: EvaluationProgress): void
  /** Is given each result as soon as it is there: those before an error or an abort stay. */
  onResult?(result: TaskResult): void
  signal?: AbortSignal
}

export interface TaskResult {
  task: string
  type: EvaluationTask['type']
  routing: Routing
  /** Absent with 'topk', and unless the model has an expert-choice router. */
  routerThreshold?: number
  maxRecursions: number
  /** Examples or documents. */
  examples: number
  fewShot: number
  /** Tokens that were scored. */
  tokens: number
  /** Sequences of which the beginning was cut off because they are longer than the context of the model. */
  cut: number
  seconds: number
  /**
   * perplexity: loss (nats per token), perplexity, bitsPerByte. multiple_choice: accuracy, accuracyNorm (of the log-likelihood per
   * character of the choice). last_word: accuracy, perplexity (of a continuation). minimal_pairs: accuracy.
   */
  metrics: Record<string, Metric>
}

/** Examples under way at once: the engine computes them in batches. */
const CONCURRENT = 64

/**
 * Measures a model by tasks, one after another; nothing of the model changes. The examples of all tasks are read first, and the
 * beginnings of texts, so that a mistake in the last task is found before the first is computed. Choices that follow one context
 * compute it once, and so do few-shot examples, unless the model is an expert-choice one under 'topk', where routing depends on the
 * whole sequence.
 * @throws {MorError} INVALID_ARGUMENT for tasks and examples that are wrong, naming file and line; IO_ERROR, NON_FINITE, ABORTED,
 * DISPOSED, and what Tokenizer.load throws
 */
export async function evaluate(
  model: Model,
  tasks: readonly EvaluationTask[],
  options: EvaluationOptions = {},
): Promise<TaskResult[]> {
  const check = Checker.of(options, 'evaluate')
  check.onlyKeys(['routing', 'routerThreshold', 'maxRecursions', 'tokenizer', 'onProgress', 'onResult', 'signal'])
  const { routing: rule, routerThreshold, maxRecursions } = resolvePassOptions(check, model.config)
  const routing = {
    routing: rule,
    ...(rule === 'threshold' && model.config.router?.type === 'expert_choice' && { routerThreshold }),
    maxRecursions: maxRecursions === 0 ? model.config.num_recursions : maxRecursions,
  }
  if (!Array.isArray(tasks) || tasks.length === 0) {
    throw new MorError('INVALID_ARGUMENT', 'evaluate: there are no tasks; give a list of at least one')
  }
  const checked = tasks.map((task, i) => checkTask(task, `evaluate: task ${i + 1}`))
  const names = checked.map(({ name }) => name)
  const twice = names.find((name, i) => names.indexOf(name) < i)
  if (twice !== undefined) {
    const text = `evaluate: two tasks have the name ${JSON.stringify(twice)}, by which results are told apart; give each its own`
    throw new MorError('INVALID_ARGUMENT', text)
  }
  const { signal, onProgress, onResult } = options
  throwIfAborted(signal, 'the evaluation')
  const tokenizer = options.tokenizer ?? (await new ModelText(model.text).tokenizer())
  checkVocabulary(tokenizer, model.config.vocab_size, 'evaluate')
  const measures = await mapInOrder(checked, (task) => prepare(model, tokenizer, task, routing, signal))
  const results: TaskResult[] = []
  for (const [i, task] of checked.entries()) {
    const begun = performance.now()
    const measured = await measures[i]!((done, total, tokens) => onProgress?.({ task: task.name, done, total, tokens }))
    const seconds = (performance.now() - begun) / 1000
    const fewShot = ('fewShot' in task && task.fewShot) || 0
    const result = { task: task.name, type: task.type, ...routing, fewShot, ...measured, seconds }
    results.push(result)
    onResult?.(result)
  }
  return results
}

type Measured = Pick<TaskResult, 'examples' | 'tokens' | 'cut' | 'metrics'>
type OnProgress = (done: number, total: number | null, tokens: number) => void

/** Reads what a task consists of, so that nothing is computed before all tasks have been found right; the result measures it. */
async function prepare(
  model: Model,
  tokenizer: Tokenizer,
  task: EvaluationTask,
  routing: RoutingOptions,
  signal: AbortSignal | undefined,
): Promise<(onProgress: OnProgress) => Promise<Measured>> {
  throwIfAborted(signal, 'the evaluation')
  if (task.type !== 'perplexity') {
    const examples = await readExamples(task)
    return (onProgress) => measureExamples(model, tokenizer, task, examples, routing, signal, onProgress)
  }
  const shape = await checkTexts(model, task)
  return async (onProgress) => {
    const progress = { signal, onProgress: (documents: number, tokens: number) => onProgress(documents, null, tokens) }
    return { cut: 0, ...(await measurePerplexity(model, tokenizer, task, shape, routing, progress)) }
  }
}

async function measureExamples(
  model: Model,
  tokenizer: Tokenizer,
  task: ExamplesTask,
  examples: readonly Prompted[],
  routing: RoutingOptions,
  signal: AbortSignal | undefined,
  onProgress: OnProgress,
): Promise<Measured> {
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
