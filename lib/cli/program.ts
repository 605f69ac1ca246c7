// The command line of `mor`: commands, options, defaults, help.
import { Argument, Command, Option } from 'commander'
import { kvCaches, sharings } from '../config.js'
import { initialisations } from '../convert/layers.js'
import { textFormats } from '../dataset/file_kind.js'
import { packageRoot } from '../native_loader.js'
import { exitCodeOf } from './failure.js'
import { withInterrupt } from './interrupt.js'
import { Output } from './output.js'
import { type TrainOptions, trainDefaults } from './train_options.js'
import { integer, integers, notEmpty, number } from './values.js'
import { versionOf } from './version.js'

export function makeProgram(): Command {
  const program = new Command('mor')
    .description('Train Mixture-of-Recursions language models and generate from them.')
    .version(versionOf(packageRoot), '--version', 'show the version')
    .option('--verbose', 'show the stack of an error')
    .exitOverride()
    .showHelpAfterError('(--help shows the options)')
    .showSuggestionAfterError()
  addPrepare(program)
  addTokenizer(program)
  addTrain(program)
  addGenerate(program)
  addServe(program)
  addView(program)
  addConvert(program)
  addEvaluate(program)
  addReport(program)
  addInspect(program)
  addDoctor(program)
  return program
}

const deviceOption = () => new Option('--device <device>', 'auto, cpu, cuda or cuda:<n>').default('auto')
const dtypeOption = () =>
  new Option('--dtype <dtype>', 'precision').choices(['bfloat16', 'float32']).default('bfloat16')
const threadsOption = () =>
  new Option('--threads <count>', 'CPU threads; 0 for as many as this process may use').argParser(integer(0)).default(0)
const niceOption = () =>
  new Option('--nice <value>', 'nice value of the threads that compute, 0 to 19').argParser(integer(0, 19)).default(5)
const inputsArgument = () =>
  new Argument(
    '<inputs...>',
    'files of text, .jsonl or .parquet, also with .gz, .zst or .xz after it (not Parquet); patterns such as "books/**/*.txt"; - for standard input',
  )
const textFieldOption = () =>
  new Option('--text-field <key>', 'key of the text in a JSONL line, column of a Parquet file').default(
    trainDefaults.textField,
  )
const formatOption = () =>
  new Option('--format <format>', 'of all inputs; default: by their names, text for standard input').choices(
    textFormats,
  )
const apiKeyOption = (description: string) =>
  new Option('--api-key <key>', description).env('MOR_API_KEY').argParser(notEmpty)

function addPrepare(program: Command): void {
  program
    .command('prepare')
    .description(
      'Tokenize text into a dataset folder to train from. The same command goes on after an interruption, and verifies a dataset that is complete. On a terminal it shows a progress line, elsewhere JSON lines.',
    )
    .addArgument(inputsArgument())
    .requiredOption('--output <folder>', 'folder of the dataset')
    .option('--tokenizer <source>', 'byte-level, a tokenizer.json, or a folder that holds one', trainDefaults.tokenizer)
    .addOption(textFieldOption())
    .addOption(formatOption())
    .option(
      '--validation-fraction <share>',
      'share of the text held out, 0 to 0.5',
      number(0, 0.5),
      trainDefaults.validationFraction,
    )
    .option('--length <tokens>', 'tokens of the rows that will be read: each split gets at least one', integer(1))
    .option('--threads <count>', 'threads that tokenize; default: one for each processor', integer(1))
    .action(async (inputs, options) => {
      const { prepare } = await import('./prepare.js')
      await withInterrupt((signal) => prepare(inputs, options, new Output(process.stdout), signal))
    })
}

function addTokenizer(program: Command): void {
  program
    .command('tokenizer')
    .description('Make tokenizers.')
    .command('train')
    .description(
      'Train a byte-level BPE tokenizer on text. On a terminal it shows a progress line, elsewhere JSON lines.',
    )
    .addArgument(inputsArgument())
    .requiredOption('--vocab-size <count>', 'tokens, with the 256 bytes and the special ones', integer(257))
    .requiredOption('--output <folder>', 'folder for tokenizer.json and tokenizer_config.json')
    .option('--special-tokens <names...>', 'the first one ends a text; default: <|endoftext|>')
    .addOption(textFieldOption())
    .addOption(formatOption())
    .action(async (inputs, options) => {
      const { trainTokenizerCommand } = await import('./train_tokenizer.js')
      await withInterrupt((signal) => trainTokenizerCommand(inputs, options, new Output(process.stdout), signal))
    })
}

function addTrain(program: Command): void {
  program
    .command('train')
    .description(
      'Train a model on text. On a terminal it shows a progress line, elsewhere JSON lines. Ctrl-C, SIGTERM, SIGUSR2, a closed terminal and an output that nobody reads save and stop it. Under mpirun, srun or, on GPUs, torchrun all ranks train one model.',
    )
    .requiredOption('--output <folder>', 'folder of the run: checkpoint/, dataset/, metrics.jsonl, run.json')
    .option('--resume', 'go on with the run in --output, with its own options; more --steps may be given')
    .option('--config <source>', 'model: a preset or a JSON file (the vocabulary may be left out)')
    .option(
      '--from <checkpoint>',
      'in place of --config: start from the weights and the tokenizer of this folder or GGUF file',
    )
    .option(
      '--data <paths...>',
      'text, .jsonl or .parquet files, also compressed, or patterns of their names; or one dataset folder; or several with weights, such as books=3 code=1',
    )
    .option('--tokenizer <source>', 'byte-level, a tokenizer.json, or a folder that holds one', trainDefaults.tokenizer)
    .addOption(textFieldOption())
    .option(
      '--validation-fraction <share>',
      'share of the text held out, 0 to 0.5',
      number(0, 0.5),
      trainDefaults.validationFraction,
    )
    .option('--length <tokens>', 'tokens of a row; default: the context of the model, at most 512', integer(1))
    .option('--batch-size <rows>', 'rows of a micro-batch, of all ranks together', integer(1), trainDefaults.batchSize)
    .option(
      '--gradient-accumulation <count>',
      'micro-batches of a step',
      integer(1),
      trainDefaults.gradientAccumulation,
    )
    .option('--steps <count>', 'optimizer steps; with --resume, the new number', integer(1), trainDefaults.steps)
    .option('--learning-rate <rate>', 'peak learning rate', number(0), trainDefaults.learningRate)
    .addOption(
      new Option('--schedule <type>', 'learning-rate schedule')
        .choices(['trapezoid', 'cosine', 'constant'])
        .default(trainDefaults.schedule),
    )
    .option(
      '--warmup-steps <count>',
      'steps of linear warm-up; default: 5% of the steps for the trapezoid, else none',
      integer(0),
    )
    .option(
      '--cooldown-steps <count>',
      'steps of the trapezoid’s linear cool-down; default: 20% of the steps',
      integer(0),
    )
    .option('--weight-decay <rate>', 'decoupled weight decay', number(0), trainDefaults.weightDecay)
    .option('--gradient-clip <norm>', 'largest global gradient norm; 0 for none', number(0), trainDefaults.gradientClip)
    .option('--freeze <patterns...>', 'tensors that stay as they are; * stands for any characters of a name')
    .option('--learning-rate-of <pattern=rate...>', 'peak learning rates of some tensors, such as model.routers.*=1e-3')
    .option('--depth-schedule-steps <count>', 'first steps in which the recursions grow from 1 to all', integer(1))
    .option('--depth-dropout <share>', 'share of the steps that run fewer recursions, drawn at random', number(0, 1))
    .option(
      '--capacity-warmup-steps <count>',
      'first steps in which the capacities fall from 1; default: the model’s',
      integer(0),
    )
    .option('--teacher <checkpoint>', 'model whose predictions are learned beside the text (distillation)')
    .option('--distillation-weight <share>', 'share of the teacher in the loss; default: 0.5', number(0, 1))
    .option('--distillation-temperature <value>', 'divides the logits of model and teacher; default: 1', number(0))
    .option('--recompute', 'compute activations again in the backward pass, to save memory')
    .option('--seed <number>', 'of the initial weights and the order of the data', integer(0), trainDefaults.seed)
    .option('--eval-every <steps>', 'steps between evaluations on held-out text', integer(1), trainDefaults.evalEvery)
    .option(
      '--eval-batches <count>',
      'largest number of batches of an evaluation',
      integer(1),
      trainDefaults.evalBatches,
    )
    .option('--save-every <steps>', 'steps between checkpoints', integer(1), trainDefaults.saveEvery)
    .addOption(
      new Option('--gradient-dtype <type>', 'in which gradients travel between ranks; default: float32').choices([
        'bfloat16',
        'float32',
      ]),
    )
    .option(
      '--weight-hash-interval <steps>',
      'steps between comparisons of the weights of all ranks; 0 for never; default: 100',
      integer(0),
    )
    .addOption(deviceOption())
    .addOption(dtypeOption())
    .addOption(threadsOption())
    .addOption(niceOption())
    .action(async (options, command: Command) => {
      const { launcher } = await import('../distributed.js')
      const { train } = await import('./train.js')
      const run = async (signal: AbortSignal) => {
        const result = await train(givenOptions(options, command), new Output(process.stdout), signal)
        if (result.interrupted) process.exitCode = exitCodeOf(result.reason)
      }
      // mpirun passes SIGUSR2 on at once, and SIGTERM only shortly before it kills.
      await withInterrupt(run, { isRank: launcher() !== null, otherSignals: ['SIGUSR2'] })
    })
}

function addGenerate(program: Command): void {
  program
    .command('generate')
    .description('Generate text from a checkpoint. On a terminal it shows the text, elsewhere JSON lines.')
    .argument('<checkpoint>', 'checkpoint folder, or GGUF file')
    .option(
      '--prompt <text>',
      'text to go on from, - reads standard input; without one, generation starts a new text',
      '',
    )
    .option(
      '--tokenizer <source>',
      'byte-level, a tokenizer.json, or a folder that holds one; default: the checkpoint’s own',
    )
    .option('--max-tokens <count>', 'most tokens to generate', integer(1), 256)
    .option('--temperature <value>', '0 takes the likeliest token', number(0), 1)
    .option('--top-k <count>', 'choose among the likeliest k tokens; 0 for all', integer(0), 0)
    .option('--top-p <share>', 'choose among the likeliest tokens of together this probability', number(0, 1), 1)
    .option('--seed <number>', 'same seed, same text', integer(0))
    .option(
      '--router-threshold <probability>',
      'least router probability for another recursion, of an expert-choice router',
      number(0, 1),
    )
    .option('--max-recursions <count>', 'most recursions of a token', integer(1))
    .option('--depths', 'colour each token by the recursions it ran')
    .addOption(deviceOption())
    .addOption(dtypeOption())
    .addOption(threadsOption())
    .addOption(niceOption())
    .action(async (checkpoint, options) => {
      const { generate } = await import('./generate.js')
      await withInterrupt(async (signal) => {
        const finishReason = await generate(checkpoint, options, process.stdout, signal)
        if (finishReason === 'abort') process.exitCode = exitCodeOf(signal.reason)
      })
    })
}

function addServe(program: Command): void {
  program
    .command('serve')
    .description(
      'Serve a checkpoint over HTTP with OpenAI’s completions API. SIGTERM or Ctrl-C finishes what is under way; a second one stops at once. SIGUSR2 loads the checkpoint again.',
    )
    .requiredOption('--model <folder>', 'checkpoint folder, or GGUF file')
    .option('--model-name <name>', 'id of the model in the API; default: the name of the folder')
    .option(
      '--tokenizer <source>',
      'byte-level, a tokenizer.json, or a folder that holds one; default: the checkpoint’s own',
    )
    .option('--chat-template <file>', 'Jinja template of conversations; default: the checkpoint’s own, if it has one')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <number>', 'port to listen on; 0 for any that is free', integer(0, 65535), 8000)
    .addOption(apiKeyOption('key that clients must send; default: none'))
    .option(
      '--cors-origin <origin...>',
      'origins whose pages may call the server from a browser, or * for all; default: none',
    )
    .option('--max-batch-size <count>', 'most decoding sequences in one pass of the block', integer(1), 64)
    .option('--kv-cache-bytes <bytes>', 'memory for keys and values; 0 leaves it to the engine', integer(0), 0)
    .option('--max-completions <count>', 'most completions under way at once; more are refused', integer(1), 1024)
    .option('--max-prompt-tokens <count>', 'most tokens of a prompt; default: one less than the context', integer(1))
    .option('--body-limit-bytes <bytes>', 'most bytes of a request', integer(1), 2 ** 20)
    .option('--strict', 'refuse requests with unknown fields, which are ignored otherwise')
    .addOption(
      new Option('--log-level <level>', 'least level of the log, JSON lines on standard error')
        .choices(['silent', 'error', 'warn', 'info', 'debug'])
        .default('error'),
    )
    .option('--traces', 'make spans with OpenTelemetry, by the provider that NODE_OPTIONS registers')
    .option('--drain-timeout <seconds>', 'time that completions get to finish when the server stops', number(0), 30)
    .addOption(deviceOption())
    .addOption(dtypeOption())
    .addOption(threadsOption())
    .addOption(niceOption())
    .action(async (options) => {
      const { serve } = await import('./serve.js')
      await runServer((signal) => serve(options, new Output(process.stdout), signal))
    })
}

function addView(program: Command): void {
  program
    .command('view')
    .description('Show in a browser how deep each token goes: a page beside the completions API. Ctrl-C stops it.')
    .requiredOption('--model <folder>', 'checkpoint folder, or GGUF file')
    .option(
      '--tokenizer <source>',
      'byte-level, a tokenizer.json, or a folder that holds one; default: the checkpoint’s own',
    )
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <number>', 'port to listen on; 0 for any that is free', integer(0, 65535), 8080)
    .addOption(apiKeyOption('key that the page must be given; default: none'))
    .addOption(deviceOption())
    .addOption(dtypeOption())
    .addOption(threadsOption())
    .addOption(niceOption())
    .action(async (options) => {
      const { view } = await import('./view.js')
      await runServer((signal) => view(options, new Output(process.stdout), signal))
    })
}

function addConvert(program: Command): void {
  program
    .command('convert')
    .description(
      'Make a recursive or Mixture-of-Recursions checkpoint of a vanilla one, or the same one in another dtype or format. Ctrl-C leaves nothing behind.',
    )
    .argument('<checkpoint>', 'vanilla checkpoint: a folder of this package or of Hugging Face, or a GGUF file')
    .argument('<output>', 'folder to make, or a file of a vanilla model: its name ends with .gguf')
    .option('--recursions <count>', 'times that a token runs the shared block', integer(1, 255), 1)
    .addOption(new Option('--sharing <strategy>', 'how layers are shared; default: middle_cycle').choices(sharings))
    .option('--layers <count>', 'layers that a token passes; default: as many as in the checkpoint', integer(1))
    .addOption(
      new Option('--init <layers>', 'layers of the checkpoint that the block is made of; default: upper').choices(
        initialisations,
      ),
    )
    .option('--keep <numbers>', 'in place of --init: a layer of the checkpoint for each stored one: 0,1,3,5', integers)
    .addOption(
      new Option('--router <type>', 'default: none, every token runs all recursions').choices([
        'expert_choice',
        'token_choice',
      ]),
    )
    .addOption(
      new Option(
        '--selection <rule>',
        'how an expert-choice router is trained; default: threshold, which is what generation does',
      ).choices(['topk', 'threshold']),
    )
    .option('--auxiliary-loss <coefficient>', 'of an expert-choice router; default: 0.001', number(0))
    .addOption(
      new Option('--kv-cache <policy>', 'keys and values of the block; default: recursion_wise').choices(kvCaches),
    )
    .addOption(
      new Option('--dtype <dtype>', 'of the weights; default: as they are').choices(['float32', 'bfloat16', 'float16']),
    )
    .action(async (checkpoint, output, options) => {
      const { convertCheckpoint } = await import('./convert.js')
      await withInterrupt((signal) =>
        convertCheckpoint(checkpoint, output, options, new Output(process.stdout), signal),
      )
    })
}

function addEvaluate(program: Command): void {
  program
    .command('evaluate')
    .description(
      'Measure a checkpoint by tasks (docs/evaluation.md): perplexity, multiple choice, last words, minimal pairs. On a terminal it shows a table, elsewhere JSON lines.',
    )
    .argument('<checkpoint>', 'checkpoint folder, or GGUF file')
    .argument('[tasks...]', 'JSON files, each a task or a list of them')
    .option(
      '--text <files...>',
      'text or .jsonl files, patterns, or - to measure bits per byte of, without a task file; task files stand before it',
    )
    .addOption(textFieldOption())
    .addOption(
      new Option('--routing <rule>', 'threshold is causal, as in generation; topk is that of training')
        .choices(['threshold', 'topk'])
        .default('threshold'),
    )
    .option(
      '--router-threshold <probability>',
      'least router probability for another recursion, of an expert-choice router',
      number(0, 1),
    )
    .option('--max-recursions <count>', 'most recursions of a token', integer(1))
    .option(
      '--tokenizer <source>',
      'byte-level, a tokenizer.json, or a folder that holds one; default: the checkpoint’s own',
    )
    .addOption(deviceOption())
    .addOption(dtypeOption())
    .addOption(threadsOption())
    .addOption(niceOption())
    .action(async (checkpoint, tasks, options) => {
      const { evaluateCheckpoint } = await import('./evaluate.js')
      await withInterrupt((signal) =>
        evaluateCheckpoint(checkpoint, tasks, options, new Output(process.stdout), signal),
      )
    })
}

function addReport(program: Command): void {
  program
    .command('report')
    .description(
      'Draw training runs as one HTML page (docs/report.md): losses, quality against speed, routing, and depths of a text. Nothing is overwritten.',
    )
    .argument('<runs...>', 'folders of runs: the --output of mor train')
    .requiredOption('--output <file>', 'HTML file to make')
    .option('--svg <folder>', 'folder to make, with each chart as an SVG file')
    .option('--text <file>', 'text whose tokens are shown with their depths, for each run with a checkpoint')
    .addOption(deviceOption())
    .addOption(dtypeOption())
    .addOption(threadsOption())
    .addOption(niceOption())
    .action(async (runs, options) => {
      const { report } = await import('./report.js')
      await withInterrupt((signal) => report(runs, options, new Output(process.stdout), signal))
    })
}

function addInspect(program: Command): void {
  program
    .command('inspect')
    .description('Show what a model is and costs: parameters, layer map, KV bytes and FLOPs per token.')
    .argument('<source>', 'a preset, a JSON file, a checkpoint folder, or a GGUF file')
    .option('--length <tokens>', 'sequence length for the FLOPs; default: the context of the model', integer(1))
    .addOption(dtypeOption())
    .action(async (source, options) => {
      const { inspect } = await import('./inspect.js')
      await inspect(source, options, new Output(process.stdout))
    })
}

function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description(
      'Show whether and with what this machine can compute, and what is missing. Ends with 1 if nothing can.',
    )
    .option('--json', 'write JSON')
    .action(async (options) => {
      const { doctor } = await import('./doctor.js')
      if (!doctor(options, process.stdout)) process.exitCode = 1
    })
}

/** The options without those that have their default: a resumed run has values of its own for these. */
function givenOptions(options: TrainOptions, command: Command): TrainOptions {
  const given = Object.entries(options).filter(([name]) => command.getOptionValueSource(name) !== 'default')
  return Object.fromEntries(given) as unknown as TrainOptions
}

/** A server that nobody reads goes on, since its clients wait for answers, and has not failed when it was told to stop. */
async function runServer(server: (signal: AbortSignal) => Promise<void>): Promise<void> {
  await withInterrupt(server, { needsOutput: false })
  process.exitCode = 0
}
