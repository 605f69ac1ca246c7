// What is read of a machine: files of Linux as other machines have them, and this machine as Node sees it.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { cpuLimit, describeMachine, driverOf, processorOf } from '../../../lib/cli/machine.js'

it('describes this machine', () => {
  const { system, node, threads, memory, processor } = describeMachine()
  expect([system, node]).toEqual([`${process.platform}-${process.arch}`, process.versions.node])
  expect(threads.available).toBeGreaterThan(0)
  expect(memory.totalBytes).toBeGreaterThan(memory.availableBytes)
  expect(memory.availableBytes).toBeGreaterThan(0)
  expect(processor.name).not.toBe('unknown')
})

it('reads the features of a processor', () => {
  const x64 =
    'processor\t: 0\nmodel name\t: AMD EPYC 7763\nflags\t\t: fpu fma avx avx2 sha_ni\n\nprocessor\t: 1\nmodel name\t: AMD\n'
  expect(processorOf(x64)).toEqual({ name: 'AMD EPYC 7763', features: ['avx2', 'fma'] })
  const arm64 = 'processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n'
  expect(processorOf(arm64)).toEqual({ name: 'unknown', features: ['asimd', 'bf16', 'i8mm'] })
  expect(processorOf('')).toEqual({ name: 'unknown', features: [] })
})

it('reads the version of the NVIDIA driver', () => {
  const closed =
    'NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version: 12.2.0'
  const open = 'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder)\n'
  expect(driverOf(closed)).toBe('535.104.05')
  expect(driverOf(open)).toBe('570.86.15')
  expect(driverOf('')).toBeNull()
})

describe('the limit of the control group', () => {
  let root: string
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'mor-cgroup-'))
  })
  afterEach(() => rmSync(root, { recursive: true }))

  function place(path: string, content: string): void {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), content)
  }

  it('is that of the group or of one around it, whichever is less', () => {
    place('a/cpu.max', '150000 100000\n')
    place('a/b/cpu.max', '400000 100000\n')
    place('a/b/c/cpu.max', 'max 100000\n')
    expect(cpuLimit('0::/a/b/c\n', root)).toBe(1.5)
    expect(cpuLimit('0::/a/b\n', root)).toBe(1.5)
    place('a/b/c/cpu.max', '50000 100000\n')
    expect(cpuLimit('0::/a/b/c\n', root)).toBe(0.5)
  })

  it('is read from the first version of control groups', () => {
    place('cpu,cpuacct/x/cpu.cfs_quota_us', '300000\n')
    place('cpu,cpuacct/x/cpu.cfs_period_us', '100000\n')
    place('cpu,cpuacct/cpu.cfs_quota_us', '-1\n')
    place('cpu,cpuacct/cpu.cfs_period_us', '100000\n')
    expect(cpuLimit('4:memory:/x\n2:cpu,cpuacct:/x\n0::/x\n', root)).toBe(3)
    expect(cpuLimit('2:cpu,cpuacct:/\n', root)).toBeNull()
  })

  it('is null where there is none, in a folder of another name, and without control groups', () => {
    place('cpu.max', 'max 100000\n')
    expect(cpuLimit('0::/\n', root)).toBeNull()
    expect(cpuLimit('0::/gone:with:colons\n', root)).toBeNull()
    expect(cpuLimit('', root)).toBeNull()
  })

  it('ends where control groups are mounted, whatever the path says', () => {
    place('a/cpu.max', '100000 100000\n')
    expect(cpuLimit('0::/../../..\n', join(root, 'a'))).toBeNull()
    expect(cpuLimit('0::/\n', join(root, 'a'))).toBe(1)
  })
})
