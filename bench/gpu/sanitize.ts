// The part `sanitize`: op tests under compute-sanitizer, which slows every access down. Therefore it comes last, and leaves
// out what tests no kernel or the same kernels again.
import { spawnSync } from 'node:child_process'
import { basename } from 'node:path'
import { runCases } from '../lib/cases.js'
import { testProgram } from './gtest.js'
import type { Part } from './part.js'
import { testPrograms } from './tests.js'

const tools = ['memcheck', 'racecheck'] as const
const testSeconds = 60

/** Proofs of the reference, the CPU alone, statistics, and ways of calling the same kernels that are compared. */
const without = [
  '*ReferenceGradient*',
  '*AnyTeam*',
  '*ManyShapesOneAfterAnother*',
  '*OnTheCpu*',
  '*NotDependOn*',
  '*GivesTheBits*',
  '*LargeScores*',
  '*LogitsOfAThousand*',
  '*NeighboursDoNotMatter*',
  '*AreNamed*',
  'Sample.DrawsFollowTheDistribution',
  'Sample.MinPKeepsTokensOfAtLeastThisShareOfTheBest',
]

/** The path of compute-sanitizer, or undefined. */
function findSanitizer(): string | undefined {
  const candidates = ['compute-sanitizer', '/usr/local/cuda/bin/compute-sanitizer']
  return candidates.find((path) => spawnSync(path, ['--version']).status === 0)
}

export async function sanitize({ report, deadline, device, programs }: Part): Promise<void> {
  const sanitizer = findSanitizer()
  if (sanitizer === undefined) return report.remark('compute-sanitizer was not found, so nothing ran under it')
  const ops = testPrograms(programs).filter((path) => basename(path).startsWith('ops_'))
  for (const path of ops)
    for (const tool of tools) {
      const under = [sanitizer, '--tool', tool, '--error-exitcode', '99']
      const program = testProgram(path, { device, seconds: testSeconds, without, under })
      await runCases({ ...program, name: `${program.name} under ${tool}` }, deadline, report)
    }
}
