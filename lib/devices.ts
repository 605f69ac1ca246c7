// Which compute devices there are, and which one a `device` option means.
import { show } from './check.js'
import { MorError, wrapNative } from './errors.js'
import type { DeviceInfo, NativeAddon } from './native/addon.js'
import { loadNative } from './native_loader.js'
import { suggestion } from './suggest.js'

/**
 * 'auto' = a usable GPU, else the CPU; 'cuda' = a usable GPU; otherwise an id of `devices()`. The GPU is the first one, or, for one of
 * several ranks that a launcher started, the one at the rank's place on its machine.
 */
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
 * INSTRUCTION_SET_UNAVAILABLE. COMMUNICATION_FAILED where the variables of a launcher say no rank
 */
export function selectDevice(option: unknown, addon: Pick<NativeAddon, 'devices' | 'launcher'>): string {
  if (typeof option !== 'string')
    throw new MorError('INVALID_ARGUMENT', `device is ${show(option)}; it must be a string`)
  const available = wrapNative(() => addon.devices())
  const gpus = available.filter((device) => device.type === 'cuda')
  if (option === 'auto' || option === 'cuda') {
    const usable = gpus.filter((device) => device.usable)
    if (usable.length === 0) return option === 'auto' ? 'cpu' : refuse(option, gpus)
    const launcher = wrapNative(() => addon.launcher())
    return gpuOfRank(option, usable, launcher)
  }
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

/** The GPU at the place of this process among the ranks of its machine, since each has one for itself. */
function gpuOfRank(
  option: string,
  usable: readonly DeviceInfo[],
  launcher: ReturnType<NativeAddon['launcher']>,
): string {
  const place = launcher === null || launcher.size === 1 ? 0 : (launcher.localRank ?? 0)
  const gpu = usable[place]
  if (gpu !== undefined) return gpu.id
  const ids = usable.map(({ id }) => id).join(', ')
  throw new MorError(
    'DEVICE_NOT_FOUND',
    `device is "${option}", but ${launcher!.name} started ${place + 1} ranks or more on this machine, which has ${usable.length} usable GPU${usable.length === 1 ? '' : 's'} (${ids}): start one rank for each GPU, or, if the launcher gives each rank GPUs of its own, give device "cuda:0", or train on "cpu"`,
  )
}

/** @param gpus those that `option` could mean; none can be used. */
function refuse(option: string, gpus: readonly DeviceInfo[]): never {
  const reasons = gpus.map(({ id, name, reason }) => (id === 'cuda' ? reason : `${id} (${name}): ${reason}`))
  throw new MorError(gpus[0]!.code!, `device "${option}" cannot be used: ${reasons.join('; ')}`)
}
