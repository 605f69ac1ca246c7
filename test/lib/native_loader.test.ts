// What a user reads when the native binary is missing or does not load.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { MorError } from '../../lib/errors.js'
import { loadNativeFrom } from '../../lib/native_loader.js'

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
  throw new Error('loaded an addon from an empty folder')
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
  const folder = join(root, 'build', 'Release')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'mixture_of_recursions.node'), 'not a shared object')
  const { code, message } = failure()
  expect(code).toBe('NATIVE_MISSING')
  expect(message).toContain(join(folder, 'mixture_of_recursions.node'))
  expect(message).toMatch(/is there but does not load/)
})
