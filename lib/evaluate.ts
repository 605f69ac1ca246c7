// evaluate(): measures a model by tasks, one after another.
import { Checker, isObject, show } from './check.js'
import { MorError, throwIfAborted } from './errors.js'
import type { Evaluated } from './evaluation/evaluated.js'
import { readExamples } from './evaluation/examples.js'
import { measureExamples } from './evaluation/measure_examples.js'
import type { Metric } from './evaluation/metrics.js'
import { checkTexts, measurePerplexity } from './evaluation/perplexity.js'
import type { RoutingOptions } from './evaluation/scorer.js'
import { checkTask, type EvaluationTask } from './evaluation/tasks.js'
import { resolvePassOptions } from './forward.js'
import { mapInOrder } from './map_in_order.js'
import { Model } from './model.js'
import { ModelText } from './model_text.js'
import type { Routing } from './native/model.js'
import { readTokenizer } from './tokenizer/option.js'
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
  if (!isObject(options))
    throw new MorError('INVALID_ARGUMENT', `evaluate: the options are ${show(options)}; they must be an object`)
  const check = Checker.of(options, 'evaluate')
  if (!(model instanceof Model))
    check.fail(`the model is ${show(model)}; give what Model.create or Model.load resolves to`)
  check.onlyKeys(['routing', 'routerThreshold', 'maxRecursions', 'tokenizer', 'onProgress', 'onResult', 'signal'])
  const { routing: rule, routerThreshold, maxRecursions } = resolvePassOptions(check, model.config)
  const routing = {
    routing: rule,
    ...(rule === 'threshold' && model.config.router?.type === 'expert_choice' && { routerThreshold }),
    maxRecursions: maxRecursions === 0 ? model.config.num_recursions : maxRecursions,
  }
  if (!Array.isArray(tasks))
    check.fail(`the tasks are ${show(tasks)}; they must be a list, such as readTasks resolves to`)
  if (tasks.length === 0) check.fail('there are no tasks; give a list of at least one')
  const checked = tasks.map((task, i) => checkTask(task, `evaluate: task ${i + 1}`))
  const names = checked.map(({ name }) => name)
  const second = names.findIndex((name, i) => names.indexOf(name) < i)
  if (second >= 0) {
    const which = `tasks ${names.indexOf(names[second]!) + 1} and ${second + 1} have the name ${show(names[second])}`
    check.fail(`${which}, by which results are told apart; give each its own`)
  }
  const signal = check.signal()
  const onProgress = check.callback<NonNullable<EvaluationOptions['onProgress']>>('onProgress')
  const onResult = check.callback<NonNullable<EvaluationOptions['onResult']>>('onResult')
  const given = readTokenizer(check)
  throwIfAborted(signal, 'the evaluation')
  const tokenizer = given ?? (await new ModelText(model.text).tokenizer())
  checkVocabulary(tokenizer, model.config.vocab_size, 'evaluate')
  const measures = await mapInOrder(checked, (task) => prepare({ model, tokenizer, routing }, task, signal))
  const results: TaskResult[] = []
  for (const [i, task] of checked.entries()) {
    const begun = performance.now()
    const report: OnProgress = (done, total, tokens) => onProgress?.({ task: task.name, done, total, tokens })
    const measured = await measures[i]!(report).catch((error: unknown) => {
      // What was under way names itself, such as a forward pass, and not the task.
      throwIfAborted(signal, `task ${task.name}`)
      throw error
    })
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
  evaluated: Evaluated,
  task: EvaluationTask,
  signal: AbortSignal | undefined,
): Promise<(onProgress: OnProgress) => Promise<Measured>> {
  throwIfAborted(signal, 'the evaluation')
  if (task.type !== 'perplexity') {
    const examples = await readExamples(task)
    return (onProgress) => measureExamples(evaluated, task, examples, { signal, onProgress })
  }
  const shape = await checkTexts(evaluated.model, task)
  return async (onProgress) => {
    const progress = { signal, onProgress: (documents: number, tokens: number) => onProgress(documents, null, tokens) }
    return { cut: 0, ...(await measurePerplexity(evaluated, task, shape, progress)) }
  }
}
