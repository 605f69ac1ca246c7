// Which compute devices there are, and which one a `device` option means.
// Must not know what runs on them.
import { show } from './check.js'
import { MorError, wrapNative } from './errors.js'
import type { DeviceInfo } from './native.js'
import { loadNative } from './native_loader.js'
import { suggestion } from './suggest.js'

/** 'auto' = the first usable GPU, else the CPU; 'cuda' = the first usable GPU; otherwise an id of `devices()`. */
export type DeviceOption = 'auto' | 'cpu' | 'cuda' | `cuda:${number}`

/**
 * The CPU and every GPU, and for one that cannot be used, why.
 * @throws {MorError} NATIVE_MISSING
 */
export function devices(): DeviceInfo[] {
  const addon = loadNative()
  return wrapNative(() => addon.devices())
}

/**
 * The id of the device that `option` means. Never falls back from what was asked for.
 * @throws {MorError} INVALID_ARGUMENT for a name that is no device, DEVICE_UNAVAILABLE for one that cannot be used.
 */
export function selectDevice(option: unknown, available: readonly DeviceInfo[]): string {
  const gpus = available.filter((device) => device.type === 'cuda')
  const usableGpu = gpus.find((device) => device.usable)
  if (option === 'auto') return (usableGpu ?? find('cpu', available)).id
  if (option === 'cuda') {
    if (usableGpu === undefined) throw new MorError('DEVICE_UNAVAILABLE', `device "cuda": ${whyNoGpu(gpus)}`)
    return usableGpu.id
  }
  if (typeof option !== 'string')
    throw new MorError('INVALID_ARGUMENT', `device is ${show(option)}; it must be a string`)
  if (/^cuda:\d+$/.test(option) && gpus.length === 0) {
    throw new MorError('DEVICE_UNAVAILABLE', `device "${option}": ${whyNoGpu(gpus)}`)
  }
  const device = find(option, available)
  if (!device.usable) {
    throw new MorError('DEVICE_UNAVAILABLE', `device "${option}" (${device.name}) cannot be used: ${device.reason}`)
  }
  return device.id
}

function find(id: string, available: readonly DeviceInfo[]): DeviceInfo {
  const device = available.find((candidate) => candidate.id === id)
  if (device !== undefined) return device
  const names = ['auto', 'cuda', ...available.map((candidate) => candidate.id)]
  throw new MorError(
    'INVALID_ARGUMENT',
    `device is "${id}"; this machine knows ${names.map(show).join(', ')}${suggestion(id, names)}`,
  )
}

function whyNoGpu(gpus: DeviceInfo[]): string {
  if (gpus.length === 0) return 'no CUDA device was found; use device "cpu", or "auto" to take what there is'
  const reasons = gpus.map((gpu) => `${gpu.id} (${gpu.name}): ${gpu.reason}`)
  return `no CUDA device can be used: ${reasons.join('; ')}`
}
