// `mor doctor`: whether this package can compute on this machine, with what, and what to do where it cannot. Must work
// when the addon does not load.
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { toMorError } from '../errors.js'
import type { DeviceInfo, NativeAddon } from '../native/addon.js'
import { findNative, loadNativeFrom, packageRoot } from '../native_loader.js'
import { buildCommand } from '../native_platform.js'
import { formatBytes } from './format.js'
import { describeMachine, type Machine } from './machine.js'
import { versionOf } from './version.js'

/** Something that is missing or wrong; `message` says what mends it. */
interface Problem {
  code: string
  message: string
}

/** Everything that `mor doctor` shows, as data. */
export interface DoctorReport {
  type: 'doctor'
  version: string
  /** Whether at least one device can compute. */
  usable: boolean
  /** The file that was loaded, or would be, and why that one; null: there is none. */
  binary: { path: string; why: string; loaded: boolean } | null
  devices: DeviceInfo[]
  machine: Machine
  problems: Problem[]
}

export interface DoctorOptions {
  json?: boolean
}

/**
 * Writes the report to `stream`.
 * @param root the package that is examined
 * @returns whether at least one device can compute
 */
export function doctor(
  { json = false }: DoctorOptions,
  stream: { write(text: string): unknown },
  root = packageRoot,
): boolean {
  const report = examine(root)
  stream.write(`${json ? JSON.stringify(report, undefined, 2) : formatReport(report)}\n`)
  return report.usable
}

/** Looks at the package whose root is `root` and at the machine. */
export function examine(root: string, machine = describeMachine()): DoctorReport {
  const { binary, devices, problems } = examineBinary(root)
  for (const { id, usable, code, reason } of devices) {
    // A machine without a GPU lacks nothing.
    if (!usable && (id !== 'cuda' || machine.nvidiaDriver !== null))
      problems.push({ code: code!, message: `${id}: ${reason}` })
  }
  const { available, cgroupLimit } = machine.threads
  if (cgroupLimit !== null && cgroupLimit < available) {
    const threads = Math.max(1, Math.floor(cgroupLimit))
    problems.push({
      code: 'THREADS_LIMITED',
      message: `${available} processors are visible, and the control group grants the time of ${cgroupLimit}: more threads would wait for each other, so the default is --threads ${threads}, or threads: ${threads}`,
    })
  }
  return {
    type: 'doctor',
    version: versionOf(root),
    usable: devices.some(({ usable }) => usable),
    binary,
    devices,
    machine,
    problems,
  }
}

/** The binary, what it says of the devices, and why it does not where it does not. */
function examineBinary(root: string): Pick<DoctorReport, 'binary' | 'devices' | 'problems'> {
  let binary: DoctorReport['binary'] = null
  try {
    const found = findNative(root)
    binary = { ...found, loaded: false }
    // Loading a binary whose content was changed could end the process before anything is said.
    const damage = damageOf(found.path)
    if (damage !== undefined)
      return {
        binary,
        devices: [],
        problems: [
          {
            code: 'NATIVE_DAMAGED',
            message: `${damage}. Install the package again, or build the binary: ${buildCommand(root)}`,
          },
        ],
      }
    const addon: NativeAddon = loadNativeFrom(root)
    binary.loaded = true
    return { binary, devices: addon.devices(), problems: [] }
  } catch (error) {
    const { code, message } = toMorError(error)
    return { binary, devices: [], problems: [{ code, message }] }
  }
}

/** What is wrong with a binary that does not have the checksum which lies beside it; one built here has none. */
function damageOf(path: string): string | undefined {
  const list = `${path}.sha256`
  if (!existsSync(list)) return undefined
  const expected = readFileSync(list, 'utf8').trim().split(/\s+/)[0]
  const actual = createHash('sha256').update(readFileSync(path)).digest('hex')
  return actual === expected ? undefined : `${path} has the SHA-256 ${actual}, and ${basename(list)} says ${expected}`
}

function formatReport({ version, usable, binary, devices, machine, problems }: DoctorReport): string {
  const { processor, threads, memory, nvidiaDriver } = machine
  const rows = [
    ['version', `${version}, Node ${machine.node}, ${machine.system}, ${machine.libc}`],
    ['binary', binary === null ? 'none' : `${binary.path}${binary.loaded ? '' : ' (not loaded)'}`],
    ...(binary === null ? [] : [['', binary.why]]),
    ['processor', `${processor.name}: ${processor.features.join(' ') || 'no feature that kernels use'}`],
    ['threads', `${threads.available}${threads.cgroupLimit === null ? '' : `, control group ${threads.cgroupLimit}`}`],
    [
      'memory',
      `${formatBytes(memory.totalBytes)}, ${formatBytes(memory.availableBytes)} free${memory.cgroupLimitBytes === null ? '' : `, control group ${formatBytes(memory.cgroupLimitBytes)}`}`,
    ],
    ['driver', nvidiaDriver === null ? 'no NVIDIA driver is loaded' : `NVIDIA ${nvidiaDriver}`],
    ...devices.map((device, i) => [i === 0 ? 'devices' : '', formatDevice(device)]),
    ...problems.map(({ code, message }, i) => [i === 0 ? 'problems' : '', `[${code}] ${message}`]),
    ['result', usable ? 'ready' : 'nothing can compute here'],
  ]
  return rows.map(([name, text]) => `${name!.padEnd(10)} ${text}`).join('\n')
}

function formatDevice({ id, name, usable, reason, instructionSet, computeCapability }: DeviceInfo): string {
  if (!usable) return `${id}: not usable: ${reason}`
  const kind = instructionSet ?? (computeCapability && `compute capability ${computeCapability}`)
  return kind === undefined ? `${id}: ${name}` : `${id}: ${name}, ${kind}`
}
