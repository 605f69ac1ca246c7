// Tests of the binaries under prebuilds/ as files: they load on every system that README names. They are made by
// `npm run package:native`; without them there is nothing to test.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const newestGlibc = 31 // of 2.31

const folder = 'prebuilds'
const binaries = existsSync(folder)
  ? readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.node'))
      .map((name) => join(folder, name))
  : []

const readelf = (file: string, ...options: string[]) =>
  execFileSync('readelf', ['--wide', ...options, file], { encoding: 'utf8' })

/** The dynamic symbols: `version` is empty for one that any library may provide. */
function symbols(file: string) {
  const line = /^\s*\d+: [\da-f]+\s+\w+ \w+\s+(\w+)\s+\w+\s+(\w+) ([^@\s]+)(?:@+(\S+))?/gm
  return [...readelf(file, '--dyn-syms').matchAll(line)].map(([, bind, section, name, version = '']) => ({
    bind,
    wanted: section === 'UND',
    name: name!,
    version,
  }))
}

if (binaries.length === 0) it.skip('there is no prebuilt binary: npm run package:native makes one', () => {})

describe.each(binaries)('%s', (file) => {
  it('wants no symbol that is newer than glibc 2.31, and none of another library', () => {
    const wanted = symbols(file).filter((symbol) => symbol.wanted)
    const versions = wanted.map(({ version }) => version).filter((version) => version !== '')
    expect(versions.length).toBeGreaterThan(50)
    for (const version of new Set(versions)) {
      expect(version).toMatch(/^GLIBC_2\.\d+(\.\d+)?$/)
      expect(Number(version.split('.')[1]), version).toBeLessThanOrEqual(newestGlibc)
    }
    const fromNode = wanted.filter(({ bind, version }) => bind === 'GLOBAL' && version === '').map(({ name }) => name)
    expect(fromNode.length).toBeGreaterThan(20)
    expect(fromNode.filter((name) => !name.startsWith('napi_'))).toEqual([])
  })

  it('needs the libraries of glibc and no others', () => {
    const needed = [...readelf(file, '--dynamic').matchAll(/\(NEEDED\).*\[(.+)\]/g)].map((match) => match[1]!)
    expect(needed).toContain('libc.so.6')
    expect(needed.filter((name) => !/^(lib(c|m|dl|rt|pthread)|ld-linux-[\w-]+)\.so\.\d$/.test(name))).toEqual([])
  })

  it('shows Node its entry and nothing else', () => {
    const given = symbols(file).filter(({ wanted, bind }) => !wanted && bind !== 'LOCAL')
    expect(given.map(({ name }) => name).sort()).toEqual([
      'napi_register_module_v1',
      'node_api_module_get_api_version_v1',
    ])
  })

  it('is stripped, and has its checksum beside it', () => {
    expect(readelf(file, '--sections')).not.toContain('.symtab')
    const sum = createHash('sha256').update(readFileSync(file)).digest('hex')
    expect(readFileSync(`${file}.sha256`, 'utf8')).toContain(sum)
  })
})
