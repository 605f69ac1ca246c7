// How errors of other kinds become MorErrors.
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import {
  errorCodes,
  loadErrorCodes,
  MorError,
  throwIfAborted,
  toMorError,
  wrapNative,
  wrapNativeAsync,
} from '../../lib/errors.js'

function thrownBy(call: () => unknown): MorError {
  try {
    call()
  } catch (error) {
    return error as MorError
  }
  throw new Error('nothing was thrown')
}

it('keeps the code and message of an addon error, and the error as cause', () => {
  const native = Object.assign(new Error('linear: x has 3 rows, y has 4'), { code: 'INVALID_ARGUMENT' })
  const error = thrownBy(() =>
    wrapNative(() => {
      throw native
    }),
  )
  expect(error).toBeInstanceOf(MorError)
  expect(error).toMatchObject({ name: 'MorError', code: 'INVALID_ARGUMENT', message: native.message, cause: native })
})

it('leaves a MorError as it is, in promises too', async () => {
  const error = new MorError('NON_FINITE', 'loss is NaN')
  await expect(wrapNativeAsync(() => Promise.reject(error))).rejects.toBe(error)
})

it('turns file-system errors into IO_ERROR and names what helps', () => {
  const missing = join(mkdtempSync(join(tmpdir(), 'mor-')), 'missing')
  const error = toMorError(thrownBy(() => readFileSync(missing)))
  expect(error.code).toBe('IO_ERROR')
  expect(error.message).toContain(missing)
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' })
  expect(toMorError(full).message).toMatch(/free some space/)
})

it('says in words what is wrong with a path, and what to do', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mor-'))
  const [missing, file] = [join(folder, 'missing'), join(folder, 'file')]
  writeFileSync(file, 'text')
  const messageOf = (call: () => unknown) => toMorError(thrownBy(call)).message
  expect(messageOf(() => readFileSync(missing))).toBe(`there is no file or folder ${missing} (ENOENT): check the name`)
  const inTheWay = (path: string, code: string) =>
    `a file is where ${path} needs a folder (${code}): give another folder, or move the file away`
  expect(messageOf(() => readdirSync(file))).toBe(inTheWay(file, 'ENOTDIR'))
  expect(messageOf(() => mkdirSync(file, { recursive: true }))).toBe(inTheWay(file, 'EEXIST'))
  expect(messageOf(() => mkdirSync(join(file, 'below'), { recursive: true }))).toBe(
    inTheWay(join(file, 'below'), 'ENOTDIR'),
  )
})

it('says where no folder can be made', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mor-'))
  const error = thrownBy(() => mkdirSync(join(folder, 'none', 'below')))
  expect(toMorError(error).message).toBe(
    `the folder ${join(folder, 'none', 'below')} cannot be made (ENOENT): the one above takes no folders; give another place`,
  )
})

it('says which port is in use', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const [error] = await once(createServer().listen(port, '127.0.0.1'), 'error').catch((reason) => [reason])
  server.close()
  expect(toMorError(error).message).toBe(
    `port ${port} of 127.0.0.1 is in use (EADDRINUSE): give another port, or end the program that listens there`,
  )
})

it('turns anything else into INTERNAL', () => {
  expect(toMorError(new TypeError('x is not a function'))).toMatchObject({ code: 'INTERNAL' })
  expect(toMorError('text')).toMatchObject({ code: 'INTERNAL', message: 'text' })
  expect(toMorError(undefined)).toMatchObject({ code: 'INTERNAL', message: 'undefined' })
})

it('reports an aborted signal with its reason', () => {
  expect(() => throwIfAborted(undefined, 'loading')).not.toThrow()
  expect(() => throwIfAborted(new AbortController().signal, 'loading')).not.toThrow()
  const reason = new Error('enough')
  const error = thrownBy(() => throwIfAborted(AbortSignal.abort(reason), 'loading'))
  expect(error).toMatchObject({ code: 'ABORTED', message: 'loading was aborted', cause: reason })
})

it('has the codes of the C++ enum, in its order, and those of loading', () => {
  const header = readFileSync(new URL('../../native/core/check.h', import.meta.url), 'utf8')
  const body = /enum class ErrorCode \{([^}]*)\}/.exec(header)![1]!
  const codes = body
    .split(',')
    .map((code) => code.trim())
    .filter(Boolean)
  expect([...codes, ...loadErrorCodes]).toEqual([...errorCodes])
})
