// Two rounds of a run whose ranks are killed: the checkpoint stays whole, and losses are those of a run that nothing befell.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { isInstalled, openMpi } from '../lib/mpi_launchers.js'
import { killedRun } from './killed_run.js'

it.skipIf(!isInstalled(openMpi))(
  'goes on from a whole checkpoint whenever a rank is killed',
  { timeout: 300_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'mor-faults-'))
    try {
      const { rounds, losses, expected } = await killedRun(folder, 2, 1)
      expect(rounds.length).toBe(2)
      expect(losses.length).toBe(expected.length)
      losses.forEach((loss, i) => {
        expect(Math.abs(loss - expected[i]!), `step ${i + 1}`).toBeLessThan(0.001)
      })
      expect(losses.at(-1)).toBeLessThan(losses[0]! - 1)
    } finally {
      rmSync(folder, { recursive: true })
    }
  },
)
