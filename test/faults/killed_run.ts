// A training run of which a rank is killed again and again, and which goes on each time with another number of ranks.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readTrainerCheckpoint } from '../../lib/trainer_checkpoint.js'
import { command, mor } from '../lib/cli/process.js'
import { writeTinyRun } from '../lib/cli/tiny_run.js'
import { openMpi, type RunningRanks, startRanks } from '../lib/mpi_launchers.js'
import { Random } from '../soak/random.js'

const SAVE_EVERY = 3
const MOST_RANKS = 3

/** Ranks that wait for one that is gone must end much sooner. */
const LIMIT_MS = 120_000

export interface Round {
  ranks: number
  killed: number
  /** The last step that was told, and that of the checkpoint, which must not be more than an interval of saves older. */
  told: number
  saved: number
  seconds: number
}

export interface KilledRun {
  rounds: Round[]
  /** Of every step of the run, and of one of a single rank that was never killed. */
  losses: number[]
  expected: number[]
}

/**
 * Throws if a round leaves no whole checkpoint of the steps that were saved, or the run cannot go on from it.
 * @param folder an empty one
 */
export async function killedRun(folder: string, rounds: number, seed: number): Promise<KilledRun> {
  const random = new Random(seed)
  writeTinyRun(folder)
  const done: Round[] = []
  let saved = 0
  for (let i = 0; i < rounds; i++) {
    const round = await killedRound(folder, random, saved)
    saved = round.saved
    done.push(round)
  }
  const steps = saved + 8
  const { code, stderr } = await start(random.integer(1, MOST_RANKS), folder, steps, true).ended
  if (code !== 0) throw new Error(`after all rounds the run ended with ${code}: ${stderr}`)
  const alone = await mor(...trainArguments(folder, 'alone', steps, false))
  if (alone.code !== 0) throw new Error(`the run of one rank ended with ${alone.code}: ${alone.stderr}`)
  return { rounds: done, losses: lossesOf(folder, 'run'), expected: lossesOf(folder, 'alone') }
}

async function killedRound(folder: string, random: Random, savedBefore: number): Promise<Round> {
  const ranks = random.integer(1, MOST_RANKS)
  const killed = random.integer(0, ranks - 1)
  // Without a checkpoint, there is nothing to go on from.
  let left = savedBefore === 0 ? SAVE_EVERY + 1 : random.integer(0, 8)
  const began = performance.now()
  const run = start(ranks, folder, 1_000_000, savedBefore > 0)
  let told = savedBefore
  let timer: NodeJS.Timeout | undefined
  const kill = () => {
    try {
      run.kill(killed, 'SIGKILL')
    } catch {
      timer = setTimeout(kill, 20) // it has not started, or the run is about to end
    }
  }
  const killSoon = () => {
    timer ??= setTimeout(kill, random.integer(0, 100))
  }
  // Before the first step, too.
  const early = left === 0 ? setTimeout(killSoon, random.integer(0, 3000)) : undefined
  run.onLine((line) => {
    if (!line.startsWith('{')) return // the launcher's own
    const { type, step } = JSON.parse(line) as { type: string; step: number }
    if (type !== 'step') return
    told = step
    if (--left <= 0) killSoon()
  })
  const { code, stderr } = await run.ended
  clearTimeout(early)
  clearTimeout(timer)
  const seconds = (performance.now() - began) / 1000
  const where = `after rank ${killed} of ${ranks} was killed at step ${told}`
  if (code === 0) throw new Error(`${where}, the launcher ended with 0: ${stderr}`)
  const { stepsDone: saved } = await readTrainerCheckpoint(join(folder, 'run', 'checkpoint'))
  // A step is told before it is saved.
  const least = Math.max(savedBefore, SAVE_EVERY * Math.floor((told - 1) / SAVE_EVERY))
  if (saved < least)
    throw new Error(`${where}, the checkpoint is of step ${saved}, not of ${least} or later: ${stderr}`)
  return { ranks, killed, told, saved, seconds }
}

function start(ranks: number, folder: string, steps: number, resume: boolean): RunningRanks {
  return startRanks(openMpi, ranks, command(trainArguments(folder, 'run', steps, resume)), LIMIT_MS)
}

function trainArguments(folder: string, name: string, steps: number, resume: boolean): string[] {
  const output = [
    'train',
    '--output',
    join(folder, name),
    '--steps',
    String(steps),
    '--device',
    'cpu',
    '--threads',
    '1',
  ]
  if (resume) return [...output, '--resume']
  const files = ['--config', join(folder, 'model.json'), '--data', join(folder, 'text.txt')]
  const rows = ['--length', '32', '--batch-size', String(2 * MOST_RANKS), '--seed', '3', '--dtype', 'float32']
  const times = ['--eval-every', '1000000', '--save-every', String(SAVE_EVERY), '--learning-rate', '0.002']
  return [...output, ...files, ...rows, ...times, '--schedule', 'constant']
}

function lossesOf(folder: string, name: string): number[] {
  const lines = readFileSync(join(folder, name, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
  const steps = lines.map((line) => JSON.parse(line)).filter(({ type }) => type === 'step')
  return steps.map(({ step, loss }, i) => {
    if (step !== i + 1) throw new Error(`${name}: step ${step} follows step ${i} in metrics.jsonl`)
    return loss
  })
}
