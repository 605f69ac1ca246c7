// What `mor doctor` says of this machine: everything that can be known without the addon, read from the system.
import { readFileSync } from 'node:fs'
import { availableParallelism, freemem, totalmem } from 'node:os'
import { join } from 'node:path'
import { glibcVersion } from '../native_platform.js'

/** The processor features that kernels use, as Linux names them. */
const features = ['avx2', 'fma', 'avx512f', 'avx512_bf16', 'amx_bf16', 'asimd', 'bf16', 'i8mm']

export interface Machine {
  system: string
  node: string
  /** glibc and its version, or 'not glibc'. */
  libc: string
  processor: { name: string; features: string[] }
  threads: {
    /** Processors that this process may run on. */
    available: number
    /** Processors' worth of time that the control group grants; null: no limit. */
    cgroupLimit: number | null
  }
  memory: {
    totalBytes: number
    availableBytes: number
    /** null: no limit. */
    cgroupLimitBytes: number | null
  }
  /** The version of the NVIDIA driver; null: none is loaded. */
  nvidiaDriver: string | null
}

export function describeMachine(): Machine {
  const glibc = glibcVersion()
  const limit = process.constrainedMemory()
  const total = totalmem()
  return {
    system: `${process.platform}-${process.arch}`,
    node: process.versions.node,
    libc: glibc === undefined ? 'not glibc' : `glibc ${glibc}`,
    processor: processorOf(readText('/proc/cpuinfo')),
    threads: { available: availableParallelism(), cgroupLimit: cpuLimit(readText('/proc/self/cgroup')) },
    memory: {
      totalBytes: total,
      availableBytes: freemem(),
      cgroupLimitBytes: limit > 0 && limit < total ? limit : null,
    },
    nvidiaDriver: driverOf(readText('/proc/driver/nvidia/version')),
  }
}

/** @param cpuinfo the text of /proc/cpuinfo */
export function processorOf(cpuinfo: string): Machine['processor'] {
  const field = (name: string) => new RegExp(`^${name}\\s*: (.*)$`, 'm').exec(cpuinfo)?.[1]
  const flags = new Set((field('flags') ?? field('Features') ?? '').split(' '))
  return { name: field('model name') ?? 'unknown', features: features.filter((feature) => flags.has(feature)) }
}

/** @param version the text of /proc/driver/nvidia/version */
export function driverOf(version: string): string | null {
  return /^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s/m.exec(version)?.[1] ?? null
}

/**
 * The least limit of the control group and those around it.
 * @param membership the text of /proc/self/cgroup, whose lines are `<id>:<controllers>:<path>`
 * @param root where control groups are mounted
 */
export function cpuLimit(membership: string, root = '/sys/fs/cgroup'): number | null {
  const limits: number[] = []
  for (const line of membership.split('\n')) {
    const [, controllers, ...path] = line.split(':')
    if (controllers === undefined || (controllers !== '' && !controllers.split(',').includes('cpu'))) continue
    const mount = join(root, controllers)
    for (let folder = join(mount, path.join(':')); folder.startsWith(mount); folder = join(folder, '..')) {
      limits.push(controllers === '' ? quotaOf(readText(join(folder, 'cpu.max'))) : quotaOf(firstVersion(folder)))
      if (folder.replace(/\/$/, '') === mount.replace(/\/$/, '')) break
    }
  }
  const least = Math.min(...limits)
  return Number.isFinite(least) ? least : null
}

/** Quota and period as the first version of control groups has them, written as the second does. */
function firstVersion(folder: string): string {
  return `${readText(join(folder, 'cpu.cfs_quota_us'))} ${readText(join(folder, 'cpu.cfs_period_us'))}`
}

/** `200000 100000` is 2; `max 100000` and `-1 100000` are no limit. */
function quotaOf(text: string): number {
  const [quota, period] = text.trim().split(/\s+/).map(Number)
  return quota! > 0 && period! > 0 ? quota! / period! : Number.POSITIVE_INFINITY
}

/** Empty where there is no such file. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
