// `mor doctor` on this machine with the real addon, and on packages whose binary is missing or damaged. The addon must have
// been built.
import { createHash } from 'node:crypto'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { examine } from '../../../lib/cli/doctor.js'
import { describeMachine } from '../../../lib/cli/machine.js'
import { binary } from '../addon_support.js'
import { mor } from './process.js'

const packageJson = JSON.parse(readFileSync('package.json', 'utf8'))

describe('the command', { timeout: 30000 }, () => {
  it('says in lines what can compute here, and ends with 0', async () => {
    const { code, stdout, stderr } = await mor('doctor')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toContain(
      `version    ${packageJson.version}, Node ${process.versions.node}, linux-${process.arch}, glibc `,
    )
    expect(stdout).toContain(`binary     ${binary}\n`)
    expect(stdout).toMatch(/^devices {4}cpu: ./m)
    expect(stdout).toMatch(/^result {5}ready$/m)
  })

  it('says the same as JSON', async () => {
    const { code, stdout } = await mor('doctor', '--json')
    expect(code).toBe(0)
    const report = JSON.parse(stdout)
    expect(report).toMatchObject({
      type: 'doctor',
      version: packageJson.version,
      usable: true,
      binary: { path: binary, loaded: true },
      machine: { node: process.versions.node, threads: { available: expect.any(Number) } },
    })
    expect(report.devices[0]).toMatchObject({ id: 'cpu', usable: true })
    expect(
      report.devices.slice(1).every((device: { usable: boolean; reason?: string }) => device.usable || device.reason),
    ).toBe(true)
  })

  it('ends with 1 where nothing can compute', async () => {
    const empty = mkdtempSync(join(tmpdir(), 'mor-empty-'))
    try {
      process.env.MIXTURE_OF_RECURSIONS_PREBUILD = empty
      const { code, stdout } = await mor('doctor', '--json')
      expect(code).toBe(1)
      expect(JSON.parse(stdout)).toMatchObject({ usable: false, problems: [{ code: 'NATIVE_MISSING' }] })
    } finally {
      delete process.env.MIXTURE_OF_RECURSIONS_PREBUILD
      rmSync(empty, { recursive: true })
    }
  })
})

describe('a package', () => {
  let root: string
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'mor-root-'))
    writeFileSync(join(root, 'package.json'), JSON.stringify({ name: packageJson.name, version: '9.8.7' }))
  })
  afterEach(() => rmSync(root, { recursive: true }))

  function placePrebuilt(): string {
    const folder = join(root, 'prebuilds', `linux-${process.arch}`)
    mkdirSync(folder, { recursive: true })
    const path = join(folder, 'mixture-of-recursions.glibc.node')
    copyFileSync(binary, path)
    return path
  }

  it('without a binary is not usable, and says how to get one', () => {
    expect(examine(root)).toMatchObject({
      version: '9.8.7',
      usable: false,
      binary: null,
      devices: [],
      problems: [{ code: 'NATIVE_MISSING', message: expect.stringContaining('npm run build:native') }],
    })
  })

  it('whose binary does not have its checksum is not loaded', () => {
    const path = placePrebuilt()
    const sum = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
    const whole = readFileSync(path)
    writeFileSync(`${path}.sha256`, `${sum(whole)}  mixture-of-recursions.glibc.node\n`)
    expect(examine(root)).toMatchObject({ usable: true, binary: { path, loaded: true }, problems: [] })
    const changed = Buffer.from(whole)
    changed[whole.length >> 1]! ^= 1
    rmSync(path) // its content stays mapped
    writeFileSync(path, changed)
    const report = examine(root)
    expect(report).toMatchObject({ usable: false, binary: { path, loaded: false }, devices: [] })
    expect(report.problems).toEqual([{ code: 'NATIVE_DAMAGED', message: expect.stringContaining(sum(changed)) }])
    expect(report.problems[0]!.message).toContain('Install the package again')
  })

  it('on a machine whose control group grants less than the visible processors says how many threads to use', () => {
    placePrebuilt()
    const machine = describeMachine()
    machine.threads = { available: 64, cgroupLimit: 2.5 }
    expect(examine(root, machine).problems).toEqual([
      { code: 'THREADS_LIMITED', message: expect.stringContaining('--threads 2, or threads: 2') },
    ])
  })
})
