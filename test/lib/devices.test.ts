// Which device an option means, and that nothing falls back silently.
import { expect, it } from 'vitest'
import { selectDevice } from '../../lib/devices.js'
import type { DeviceInfo } from '../../lib/native.js'

const cpu: DeviceInfo = { id: 'cpu', type: 'cpu', name: 'CPU', usable: true, memoryBytes: 1, features: [] }
const gpu = (index: number, reason?: string): DeviceInfo => ({
  id: `cuda:${index}`,
  type: 'cuda',
  name: 'GPU',
  usable: reason === undefined,
  ...(reason !== undefined && { reason }),
  memoryBytes: 1,
  features: [],
})
const old = gpu(0, 'compute capability 7.5; 8.0 is needed')

it.each<[string, DeviceInfo[], string]>([
  ['auto', [cpu], 'cpu'],
  ['auto', [cpu, old], 'cpu'],
  ['auto', [cpu, old, gpu(1)], 'cuda:1'],
  ['cpu', [cpu, gpu(0)], 'cpu'],
  ['cuda', [cpu, old, gpu(1)], 'cuda:1'],
  ['cuda:1', [cpu, gpu(0), gpu(1)], 'cuda:1'],
])('%s', (option, available, expected) => {
  expect(selectDevice(option, available)).toBe(expected)
})

it.each<[unknown, DeviceInfo[], string, RegExp]>([
  ['cuda', [cpu], 'DEVICE_UNAVAILABLE', /device "cuda": no CUDA device was found; use device "cpu", or "auto"/],
  ['cuda', [cpu, old], 'DEVICE_UNAVAILABLE', /cuda:0 \(GPU\): compute capability 7.5; 8.0 is needed/],
  ['cuda:0', [cpu, old], 'DEVICE_UNAVAILABLE', /device "cuda:0" \(GPU\) cannot be used: compute capability 7.5/],
  ['cuda:0', [cpu], 'DEVICE_UNAVAILABLE', /device "cuda:0": no CUDA device was found/],
  [
    'cuda:3',
    [cpu, gpu(0)],
    'INVALID_ARGUMENT',
    /device is "cuda:3"; this machine knows "auto", "cuda", "cpu", "cuda:0"/,
  ],
  ['gpu', [cpu], 'INVALID_ARGUMENT', /device is "gpu"; .*\(did you mean "cpu"/],
  [0, [cpu], 'INVALID_ARGUMENT', /device is 0; it must be a string/],
])('refuses %j', (option, available, code, message) => {
  expect(() => selectDevice(option, available)).toThrow(
    expect.objectContaining({ code, message: expect.stringMatching(message) }),
  )
})
