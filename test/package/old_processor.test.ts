// The addon on a processor without AVX2, which QEMU imitates (on Debian: apt-get install qemu-user): it loads, and says
// what is missing.
import { spawnSync } from 'node:child_process'
import { expect, it } from 'vitest'
import { binary, nativeConfig } from '../lib/addon_support.js'

const qemu = 'qemu-x86_64'
const imitable = process.arch === 'x64' && spawnSync(qemu, ['--version']).status === 0

it.skipIf(!imitable)('says DEVICE_TOO_OLD', { timeout: 120000 }, () => {
  const source = `
    const addon = require(${JSON.stringify(binary)})
    const [cpu] = addon.devices()
    Promise.resolve()
      .then(() => addon.createModel(${JSON.stringify(nativeConfig('vanilla'))}, { device: 'cpu', dtype: 'float32', threads: 1, nice: 0 }))
      .catch(({ code, message }) => console.log(JSON.stringify({ cpu, code, message })))`
  const { status, signal, stdout, stderr } = spawnSync(qemu, ['-cpu', 'Nehalem', process.execPath, '-e', source], {
    encoding: 'utf8',
  })
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' })
  const { cpu, code, message } = JSON.parse(stdout)
  expect(cpu).toMatchObject({ id: 'cpu', usable: false, code: 'DEVICE_TOO_OLD' })
  expect(code).toBe('DEVICE_TOO_OLD')
  for (const text of [cpu.reason, message]) expect(text).toContain('has no AVX2; the CPU device needs x86-64-v3')
})
