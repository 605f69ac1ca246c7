// Which compute devices there are, and which one a `device` option means.
import { show } from './check.js'
import { MorError, wrapNative } from './errors.js'
import type { DeviceInfo } from './native.js'
import { loadNative } from './native_loader.js'
import { suggestion } from './suggest.js'

/** 'auto' = the first usable GPU, else the CPU; 'cuda' = the first usable GPU; otherwise an id of `devices()`. */
export type DeviceOption = 'auto' | 'cpu' | 'cuda' | `cuda:${number}`

/**
 * The CPU and every GPU, and for one that cannot be used, why; where no GPU can be listed, one entry that says why.
 * @throws {MorError} PLATFORM_UNSUPPORTED, NATIVE_MISSING, NATIVE_FOREIGN, NATIVE_DAMAGED, NATIVE_LIBRARY_MISSING or
 * NATIVE_REFUSED if there is no native binary that loads
 */
export function devices(): DeviceInfo[] {
  const addon = loadNative()
  return wrapNative(() => addon.devices())
}

/**
 * The id of the device that `option` means. Never falls back from what was asked for.
 * @throws {MorError} INVALID_ARGUMENT for a name that is no device, DEVICE_NOT_FOUND for a GPU that is not there, and for
 * a device that cannot be used its own `code`: DRIVER_MISSING, DRIVER_TOO_OLD, DEVICE_TOO_OLD, DEVICE_UNAVAILABLE,
 * INSTRUCTION_SET_UNAVAILABLE.
 */
export function selectDevice(option: unknown, available: readonly DeviceInfo[]): string {
  if (typeof option !== 'string')
    throw new MorError('INVALID_ARGUMENT', `device is ${show(option)}; it must be a string`)
  const gpus = available.filter((device) => device.type === 'cuda')
  const usableGpu = gpus.find((device) => device.usable)
  if (option === 'auto') return usableGpu?.id ?? 'cpu'
  if (option === 'cuda') return usableGpu?.id ?? refuse(option, gpus)
  const device = available.find(({ id }) => id === option)
  if (device?.usable) return device.id
  if (device !== undefined) return refuse(option, [device])
  if (!/^cuda:\d+$/.test(option)) {
    const names = ['auto', 'cuda', ...available.map(({ id }) => id).filter((id) => id !== 'cuda')]
    throw new MorError(
      'INVALID_ARGUMENT',
      `device is "${option}"; this machine knows ${names.map(show).join(', ')}${suggestion(option, names)}`,
    )
  }
  if (gpus.some(({ id }) => id === 'cuda')) return refuse(option, gpus)
  throw new MorError(
    'DEVICE_NOT_FOUND',
    `device is "${option}"; this machine has ${gpus.map(({ id }) => id).join(', ')}`,
  )
}

/** @param gpus those that `option` could mean; none can be used. */
function refuse(option: string, gpus: readonly DeviceInfo[]): never {
  const reasons = gpus.map(({ id, name, reason }) => (id === 'cuda' ? reason : `${id} (${name}): ${reason}`))
  throw new MorError(gpus[0]!.code!, `device "${option}" cannot be used: ${reasons.join('; ')}`)
}
