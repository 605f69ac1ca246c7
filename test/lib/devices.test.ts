// Which device an option means, and that nothing falls back silently.
import { expect, it } from 'vitest'
import { selectDevice } from '../../lib/devices.js'
import type { DeviceInfo } from '../../lib/native/addon.js'

const cpu: DeviceInfo = { id: 'cpu', type: 'cpu', name: 'CPU', usable: true, memoryBytes: 1, features: [] }
const gpu = (index: number, refusal?: Pick<DeviceInfo, 'code' | 'reason'>): DeviceInfo => ({
  id: `cuda:${index}`,
  type: 'cuda',
  name: 'GPU',
  usable: refusal === undefined,
  ...refusal,
  memoryBytes: 1,
  features: [],
})
const old = gpu(0, { code: 'DEVICE_TOO_OLD', reason: 'compute capability 7.5; 8.0 is needed' })
const none: DeviceInfo = { ...gpu(0, { code: 'DRIVER_MISSING', reason: 'no NVIDIA driver was found' }), id: 'cuda' }

type Launched = { name: string; rank: number; size: number; localRank: number | null }

const select = (option: unknown, available: DeviceInfo[], launched: Launched | null = null) =>
  selectDevice(option, { devices: () => available, launcher: () => launched })

it.each<[string, DeviceInfo[], string]>([
  ['auto', [cpu, none], 'cpu'],
  ['auto', [cpu, old], 'cpu'],
  ['auto', [cpu, old, gpu(1)], 'cuda:1'],
  ['cpu', [cpu, gpu(0)], 'cpu'],
  ['cuda', [cpu, old, gpu(1)], 'cuda:1'],
  ['cuda:1', [cpu, gpu(0), gpu(1)], 'cuda:1'],
])('%s', (option, available, expected) => {
  expect(select(option, available)).toBe(expected)
})

it.each<[unknown, DeviceInfo[], string, string]>([
  ['cuda', [cpu, none], 'DRIVER_MISSING', 'device "cuda" cannot be used: no NVIDIA driver was found'],
  ['cuda:0', [cpu, none], 'DRIVER_MISSING', 'device "cuda:0" cannot be used: no NVIDIA driver was found'],
  [
    'cuda',
    [cpu, old, gpu(1, { code: 'DEVICE_UNAVAILABLE', reason: 'busy' })],
    'DEVICE_TOO_OLD',
    'device "cuda" cannot be used: cuda:0 (GPU): compute capability 7.5; 8.0 is needed; cuda:1 (GPU): busy',
  ],
  [
    'cuda:0',
    [cpu, old, gpu(1)],
    'DEVICE_TOO_OLD',
    'device "cuda:0" cannot be used: cuda:0 (GPU): compute capability 7.5; 8.0 is needed',
  ],
  ['cuda:3', [cpu, gpu(0)], 'DEVICE_NOT_FOUND', 'device is "cuda:3"; this machine has cuda:0'],
  [
    'gpu',
    [cpu, none],
    'INVALID_ARGUMENT',
    'device is "gpu"; this machine knows "auto", "cuda", "cpu" (did you mean "cpu"?)',
  ],
  [0, [cpu, none], 'INVALID_ARGUMENT', 'device is 0; it must be a string'],
])('refuses %j', (option, available, code, message) => {
  expect(() => select(option, available)).toThrow(expect.objectContaining({ code, message }))
})

it('one of several ranks gets the GPU at its place on the machine', () => {
  const available = [cpu, old, gpu(1), gpu(2)]
  const launched = (localRank: number | null, size = 8) => ({ name: 'torchrun', rank: 5, size, localRank })
  for (const option of ['auto', 'cuda']) {
    expect(select(option, available, launched(0))).toBe('cuda:1')
    expect(select(option, available, launched(1))).toBe('cuda:2')
    expect(select(option, available, launched(null))).toBe('cuda:1')
    expect(select(option, available, launched(2, 1)), 'not one of several').toBe('cuda:1')
    expect(() => select(option, available, launched(2))).toThrow(
      expect.objectContaining({
        code: 'DEVICE_NOT_FOUND',
        message: `device is "${option}", but torchrun started 3 ranks or more on this machine, which has 2 usable GPUs (cuda:1, cuda:2): start one rank for each GPU, or, if the launcher gives each rank GPUs of its own, give device "cuda:0", or train on "cpu"`,
      }),
    )
  }
  expect(select('cuda:1', available, launched(2))).toBe('cuda:1')
  expect(select('cpu', available, launched(2))).toBe('cpu')
  expect(select('auto', [cpu, none], launched(2))).toBe('cpu')
})
