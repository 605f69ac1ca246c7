// What a user reads when the native binary is missing or does not load. Damaged binaries are real ones with a part cut off
// or overwritten, and are loaded in a process of their own, since the system's loader ends a process for some of them.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MorError } from '../../lib/errors.js'
import { findNative, loadNativeFrom } from '../../lib/native_loader.js'

const nodeGypBuild = createRequire(import.meta.url)('node-gyp-build') as { path(root: string): string }
const built = nodeGypBuild.path(resolve('.'))
const platform = `${process.platform}-${process.arch}`

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'mor-root-'))
  writeFileSync(join(root, 'package.json'), '{"name":"mixture-of-recursions"}')
})
afterEach(() => rmSync(root, { recursive: true }))

function failure(): MorError {
  try {
    loadNativeFrom(root)
  } catch (error) {
    expect(error).toBeInstanceOf(MorError)
    return error as MorError
  }
  throw new Error('loaded an addon that cannot be loaded')
}

/** @param folder as in `build/Release` */
function place(folder: string, content: string | Uint8Array): string {
  mkdirSync(join(root, folder), { recursive: true })
  const path = join(root, folder, 'mixture_of_recursions.node')
  writeFileSync(path, content)
  return path
}

it('says what was looked for, where, and the command that mends it', () => {
  const { code, message } = failure()
  expect(code).toBe('NATIVE_MISSING')
  expect(message).toContain(`${process.platform}-${process.arch}`)
  expect(message).toContain(join(root, 'build', 'Release'))
  expect(message).toContain(join(root, 'prebuilds', `${process.platform}-${process.arch}`))
  expect(message).toContain('npm run build:native')
})

it('tells a binary that does not load from one that is missing', () => {
  const path = place('build/Release', 'not a shared object')
  const { code, message } = failure()
  expect(code).toBe('NATIVE_DAMAGED')
  expect(message).toContain(path)
  expect(message).toMatch(/is there but does not load/)
})

it('prefers what was built here to what came with the package, and says so', () => {
  const prebuilt = place(`prebuilds/${platform}`, '')
  expect(findNative(root)).toEqual({ path: prebuilt, why: expect.stringContaining('prebuilt') })
  const built = place('build/Release', '')
  expect(findNative(root)).toEqual({ path: built, why: expect.stringContaining('built here') })
})

it('takes a relative path in the environment variable as one from the working folder', () => {
  const path = place('other/build/Release', 'not a shared object')
  process.env.MIXTURE_OF_RECURSIONS_PREBUILD = relative('.', join(root, 'other'))
  try {
    expect(findNative(root)).toEqual({ path, why: expect.stringContaining('MIXTURE_OF_RECURSIONS_PREBUILD names') })
  } finally {
    delete process.env.MIXTURE_OF_RECURSIONS_PREBUILD
  }
})

describe('a system without a binary', { timeout: 60000 }, () => {
  /** Runs the loader in a Node that says it is another one. */
  function refusal(disguise: string): { code: string; message: string } {
    const source = `${disguise}
      const { loadNativeFrom } = require(${JSON.stringify(resolve('lib/native_loader.ts'))})
      try { loadNativeFrom(${JSON.stringify(root)}) }
      catch ({ code, message }) { console.log(JSON.stringify({ code, message })) }`
    const { stdout } = spawnSync(process.execPath, ['--require', 'tsx/cjs', '-e', source], { encoding: 'utf8' })
    return JSON.parse(stdout)
  }
  const set = (object: string, key: string, value: string) =>
    `Object.defineProperty(${object}, '${key}', { value: ${JSON.stringify(value)} });`
  const withoutGlibc = 'process.report.getReport = () => ({ header: {} });'

  it.each([
    ['macOS', set('process', 'platform', 'darwin'), 'this is darwin', 'run it in Linux'],
    ['Windows', set('process', 'platform', 'win32'), 'this is win32', 'WSL'],
    ['musl', withoutGlibc, 'not glibc', 'npm run build:native'],
    ['another processor', set('process', 'arch', 'ppc64'), 'this is linux on ppc64', 'npm run build:native'],
  ])('%s', (_name, disguise, reason, advice) => {
    const { code, message } = refusal(disguise)
    expect(code).toBe('PLATFORM_UNSUPPORTED')
    expect(message).toContain(reason)
    expect(message).toContain('supported is Linux on x64 or arm64 with glibc 2.31 or newer')
    expect(message).toContain(advice)
  })

  it('an old Node, whether there is a binary or not', () => {
    const disguise = set('process.versions', 'node', '18.20.0')
    const without = refusal(disguise)
    expect(refusal(set('process.versions', 'node', '22.0.0')).code).toBe('NATIVE_MISSING')
    place('build/Release', readFileSync(built))
    expect(refusal(disguise)).toEqual(without)
    expect(without.code).toBe('PLATFORM_UNSUPPORTED')
    expect(without.message).toContain('this is Node 18.20.0')
    expect(without.message).toContain('Node 20.4 or newer')
    expect(refusal(set('process.versions', 'node', '20.3.1')).code).toBe('PLATFORM_UNSUPPORTED')
  })

  it('musl, where a prebuilt binary is offered and does not load', () => {
    const bytes = readFileSync(built)
    bytes.set(Buffer.from('lib0.so.6'), bytes.indexOf('libc.so.6\0'))
    place(`prebuilds/${platform}`, bytes)
    const { code, message } = refusal(withoutGlibc)
    expect(code).toBe('PLATFORM_UNSUPPORTED')
    expect(message).toContain('npm install --include=dev && npm run build:native')
  })
})

describe('a real binary', { timeout: 60000 }, () => {
  const whole = readFileSync(built)

  /** Loads what lies in `root` in a process of its own. */
  function loadElsewhere(): { code: string; message: string } {
    const source = `
      const { loadNativeFrom } = require(${JSON.stringify(resolve('lib/native_loader.ts'))})
      try { console.log(JSON.stringify({ code: 'loaded', message: String(loadNativeFrom(${JSON.stringify(root)}).devices) })) }
      catch ({ code, message }) { console.log(JSON.stringify({ code, message })) }`
    const ended = spawnSync(process.execPath, ['--require', 'tsx/cjs', '-e', source], { encoding: 'utf8' })
    expect({ signal: ended.signal, status: ended.status, stderr: ended.stderr }).toEqual({
      signal: null,
      status: 0,
      stderr: '',
    })
    return JSON.parse(ended.stdout)
  }

  it('loads', () => {
    place('build/Release', whole)
    expect(loadElsewhere().code).toBe('loaded')
  })

  it.each([0, 3, 63, 64, 300, 4096, 0.05, 0.5, 0.9, 1 - 1e-7])(
    'cut off after %f (bytes, or share) is damaged',
    (end) => {
      const bytes = end < 1 ? Math.floor(whole.length * end) : end
      const path = place(`prebuilds/${platform}`, whole.subarray(0, bytes))
      const { code, message } = loadElsewhere()
      expect(code).toBe('NATIVE_DAMAGED')
      expect(message).toContain(path)
      expect(message).toContain(`${bytes} bytes`)
      expect(message).toContain('Install the package again')
    },
  )

  function patched(at: number, bytes: number[]): Buffer {
    const copy = Buffer.from(whole)
    copy.set(bytes, at)
    return copy
  }

  it.each<[string, Buffer, string]>([
    ['another processor', patched(18, [183, 0]), process.arch === 'arm64' ? '' : 'it was built for arm64, and this is'],
    ['32 bits', patched(4, [1]), 'it was built for'],
    ['Windows', Buffer.from('MZ and more than that'), 'it was built for Windows, and this is linux'],
    ['macOS', Buffer.from('cffaedfe0c000001', 'hex'), 'it was built for macOS, and this is linux'],
  ])('for %s is foreign', (_name, content, text) => {
    place(`prebuilds/${platform}`, content)
    const { code, message } = loadElsewhere()
    expect(code).toBe('NATIVE_FOREIGN')
    expect(message).toContain(text)
  })

  it('that is a program, or whose headers are overwritten, is damaged', () => {
    place('build/Release', readFileSync(process.execPath).subarray(0, 1 << 20))
    expect(loadElsewhere().code).toBe('NATIVE_DAMAGED')
    place('build/Release', patched(32, Array(8).fill(0xee)))
    expect(loadElsewhere().code).toBe('NATIVE_DAMAGED')
    place('build/Release', patched(64, Array(600).fill(0xff)))
    expect(loadElsewhere().code).toBe('NATIVE_DAMAGED')
  })

  it('whose library is missing names it', () => {
    const needed = whole.indexOf('libc.so.6\0')
    expect(needed).toBeGreaterThan(0)
    place('build/Release', patched(needed, [...Buffer.from('lib0.so.6')]))
    const { code, message } = loadElsewhere()
    expect(code).toBe('NATIVE_LIBRARY_MISSING')
    expect(message).toContain('Install the library lib0.so.6')
  })

  it('for a newer glibc says what is supported', () => {
    const version = /GLIBC_2\.\d\d\0/.exec(whole.toString('latin1'))
    expect(version).not.toBeNull()
    const strings = Buffer.from(whole.toString('latin1').replaceAll(version![0], 'GLIBC_2.99\0'), 'latin1')
    place('build/Release', withVersionHash(strings, version![0].slice(0, -1), 'GLIBC_2.99'))
    const { code, message } = loadElsewhere()
    expect(code).toBe('PLATFORM_UNSUPPORTED')
    expect(message).toContain('Supported is Linux on x64 or arm64 with glibc 2.31 or newer')
  })

  it('that cannot be read is an error of the file system', () => {
    mkdirSync(join(root, 'build/Release/mixture_of_recursions.node'), { recursive: true })
    expect(failure().code).toBe('IO_ERROR')
    expect(existsSync(root)).toBe(true)
  })
})

/** ELF's hash of a name, which stands beside the name wherever a version is needed. */
function elfHash(name: string): number {
  let hash = 0
  for (const byte of Buffer.from(name)) {
    hash = (hash << 4) + byte
    const high = hash & 0xf0000000
    if (high !== 0) hash ^= high >>> 24
    hash &= ~high
  }
  return hash >>> 0
}

function withVersionHash(file: Buffer, from: string, to: string): Buffer {
  const old = Buffer.alloc(4)
  old.writeUInt32LE(elfHash(from))
  for (let at = file.indexOf(old); at >= 0; at = file.indexOf(old, at + 1)) file.writeUInt32LE(elfHash(to), at)
  return file
}
