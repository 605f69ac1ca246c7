// Tests of the addon as a file: it is small enough to publish and needs neither a CUDA library nor MPI.
import { execFileSync } from 'node:child_process'
import { statSync } from 'node:fs'
import { expect, it } from 'vitest'
import { binary } from '../lib/addon_support.js'

it('is under 100 MB', () => {
  expect(statSync(binary).size).toBeLessThan(100e6)
})

it('holds the CUDA runtime, and looks for the driver and for MPI only when it runs', () => {
  const dynamic = execFileSync('readelf', ['--dynamic', '--wide', binary], { encoding: 'utf8' })
  const needed = [...dynamic.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map((match) => match[1])
  expect(needed).toContain('libc.so.6')
  expect(needed.filter((name) => /^lib(cu|nv|nccl|mpi)/.test(name!))).toEqual([])
})
