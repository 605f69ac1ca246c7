// What `mor train` says where its ranks cannot train together: all of them end with one message that says what to do.
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isInstalled, mpich, openMpi, startRanks } from '../mpi_launchers.js'
import { startTorchRanks } from '../torch_ranks.js'
import { command, type Ended } from './process.js'
import { writeTinyRun } from './tiny_run.js'

const root = mkdtempSync(join(tmpdir(), 'mor-rank-refusals-'))
afterAll(() => rmSync(root, { recursive: true }))
beforeAll(() => writeTinyRun(root))

const words = (...more: string[]) =>
  command([
    ...['train', '--output', join(root, 'run'), '--config', join(root, 'model.json'), '--length', '32'],
    ...['--data', join(root, 'text.txt'), '--steps', '2', '--device', 'cpu', ...more],
  ])

/** The different errors that the ranks write; the launcher may end some of them before. Nothing must have been made. */
function errorsOf({ code, stderr }: Ended): string[] {
  expect(code, stderr).not.toBe(0)
  expect(readdirSync(root).toSorted()).toEqual(['model.json', 'text.txt'])
  return [...new Set(stderr.split('\n').filter((line) => line.startsWith('error')))]
}

/** One process that has the variables of a rank, without the launcher. */
function startAlone(variables: Record<string, string>): Promise<Ended> {
  const env = { ...process.env, ...variables }
  return new Promise((resolve) => {
    const child = execFile(process.execPath, words(), { env }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode!, stdout, stderr }),
    )
  })
}

describe('ranks', { timeout: 120_000 }, () => {
  it.skipIf(!isInstalled(openMpi))('with different commands', async () => {
    const other = [':', '-n', '1', process.execPath, ...words('--seed', '5')]
    const { ended } = startRanks(openMpi, 2, [...words(), ...other])
    expect(errorsOf(await ended)).toEqual([
      'error [INVALID_ARGUMENT] ranks differ in --seed: nothing on rank 0, but 5 on rank 2; start all ranks with the same command, files and version',
    ])
  })

  it.skipIf(!isInstalled(mpich))('that are more than the rows', async () => {
    expect(errorsOf(await startRanks(mpich, 2, words('--batch-size', '1')).ended)).toEqual([
      'error [INVALID_ARGUMENT] --batch-size is 1, the rows of all ranks together, which 2 ranks do not divide; give 2',
    ])
  })

  it.skipIf(!isInstalled(mpich))('that another process of Node starts, as npx does', async () => {
    const program = `process.exitCode = require('node:child_process').spawnSync(process.execPath, ${JSON.stringify(words())}, { stdio: 'inherit' }).status`
    const errors = errorsOf(await startRanks(mpich, 2, ['-e', program]).ended)
    expect(errors.length).toBeGreaterThan(0)
    for (const error of errors) {
      expect(error).toMatch(
        /^error \[COMMUNICATION_FAILED\] MPICH's mpiexec started this process, but the socket by which its ranks reach it, PMI_FD=\d+, is closed, as npx and npm do for what they start; start node_modules\/\.bin\/mor in place of 'npx mor'$/,
      )
    }
  })

  it('of torchrun on CPUs', async () => {
    const ended = await startTorchRanks(2, words())
    for (const [rank, each] of ended.entries()) {
      expect(errorsOf(each)).toEqual([
        `error [COMMUNICATION_FAILED] torchrun started this process as rank ${rank} of 2, but ranks on CPUs need MPI; start them with 'mpirun -n <ranks>' or 'srun'`,
      ])
    }
  })

  it('without an MPI library', async () => {
    const variables = { OMPI_COMM_WORLD_RANK: '0', OMPI_COMM_WORLD_SIZE: '2', MOR_MPI_LIBRARY: '/nowhere/libmpi.so' }
    expect(errorsOf(await startAlone(variables))).toEqual([
      'error [COMMUNICATION_FAILED] the MPI library that MOR_MPI_LIBRARY names cannot be opened: /nowhere/libmpi.so: cannot open shared object file: No such file or directory; name the file of a library, or unset the variable to use the one that the system has',
    ])
  })

  it.skipIf(!isInstalled(mpich))('with the library of another launcher', async () => {
    const variables = { OMPI_COMM_WORLD_RANK: '0', OMPI_COMM_WORLD_SIZE: '2', MOR_MPI_LIBRARY: 'libmpich.so.12' }
    expect(errorsOf(await startAlone(variables))).toEqual([
      "error [COMMUNICATION_FAILED] Open MPI's mpirun started this process, but the MPI library is libmpich.so.12 (MPICH); let MOR_MPI_LIBRARY name a library of Open MPI, or start the ranks by the launcher of MPICH",
    ])
  })
})
