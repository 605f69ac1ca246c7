// Kills a random rank at a random moment, again and again: `npm run faults -- [rounds]`, 20 by default. Exits with 1 if a checkpoint was
// lost, or losses do not go on.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { killedRun } from './killed_run.js'

async function main(rounds: number, seed: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'mor-faults-'))
  try {
    const { rounds: done, losses, expected } = await killedRun(folder, rounds, seed)
    for (const round of done) console.log(JSON.stringify(round))
    const apart = Math.max(...losses.map((loss, i) => Math.abs(loss - expected[i]!)))
    console.log(
      JSON.stringify({ rounds, seed, steps: losses.length, lastLoss: losses.at(-1), largestDifference: apart }),
    )
    if (losses.length !== expected.length || !(apart < 0.001)) process.exitCode = 1
  } finally {
    rmSync(folder, { recursive: true })
  }
}

main(Number(process.argv[2] ?? 20), Number(process.argv[3] ?? 1))
