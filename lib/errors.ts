// The one error type of the package: a code for programs, a message for people.

/** The codes of an addon that cannot be loaded (lib/native_loader.ts). */
export const loadErrorCodes = [
  'PLATFORM_UNSUPPORTED',
  'NATIVE_MISSING',
  'NATIVE_DAMAGED',
  'NATIVE_FOREIGN',
  'NATIVE_LIBRARY_MISSING',
  'NATIVE_REFUSED',
] as const

/** Every value of `MorError.code`. All but those of loading also exist in C++ (`ErrorCode` in native/core/check.h). */
export const errorCodes = [
  'INVALID_CONFIG',
  'INVALID_ARGUMENT',
  'TOKEN_OUT_OF_RANGE',
  'CONTEXT_OVERFLOW',
  'CHECKPOINT_INVALID',
  'CHECKPOINT_MISSING',
  'IO_ERROR',
  'OUT_OF_MEMORY',
  'NON_FINITE',
  'DISPOSED',
  'ABORTED',
  'DEVICE_UNAVAILABLE',
  'DEVICE_NOT_FOUND',
  'DEVICE_TOO_OLD',
  'INSTRUCTION_SET_UNAVAILABLE',
  'DRIVER_MISSING',
  'DRIVER_TOO_OLD',
  'DEVICE_LOST',
  'COMMUNICATION_FAILED',
  'INTERNAL',
  ...loadErrorCodes,
] as const

export type ErrorCode = (typeof errorCodes)[number]

/** An error with a stable `code`; `message` says what was wrong, with both values, and what to do about it. */
export class MorError extends Error {
  override readonly name = 'MorError'
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.code = code
  }
}

/**
 * The MorError that stands for `error`: itself if it is one, an error of the addon under its own code, a file-system
 * error as IO_ERROR, an AbortError as ABORTED, and anything else as INTERNAL. The original is kept as `cause`.
 * @param file what was read or written: a file-system error of an open file does not name it
 */
export function toMorError(error: unknown, file?: string): MorError {
  if (error instanceof MorError) return error
  const { code, message, syscall, name } = (error ?? {}) as Partial<SystemError>
  const text = message ?? String(error)
  if (isErrorCode(code)) return new MorError(code, text, { cause: error })
  if (syscall !== undefined)
    return new MorError('IO_ERROR', describeSystemError(error as SystemError, file), { cause: error })
  if (name === 'AbortError') return new MorError('ABORTED', text, { cause: error })
  return new MorError('INTERNAL', text, { cause: error })
}

/** For `catch`: `value` where there is no such file or folder, else throws. What cannot be read must not be taken as absent. */
export function ifGone<T>(value: T): (error: NodeJS.ErrnoException) => T {
  return (error) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return value
    throw toMorError(error)
  }
}

/** Runs `call` and throws whatever it throws as a MorError. */
export function wrapNative<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw toMorError(error)
  }
}

/**
 * Calls `call` at once, awaits it, and throws whatever it throws or rejects with as a MorError.
 * @param signal what may abort the call: its reason becomes the cause of ABORTED.
 */
export async function wrapNativeAsync<T>(call: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  try {
    return await call()
  } catch (error) {
    const known = toMorError(error)
    if (known.code !== 'ABORTED' || !signal?.aborted) throw known
    throw new MorError('ABORTED', known.message, { cause: signal.reason })
  }
}

/** Throws ABORTED if `signal` is already aborted. `what` names the operation, as in "loading the model". */
export function throwIfAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) throw new MorError('ABORTED', `${what} was aborted`, { cause: signal.reason })
}

function isErrorCode(code: unknown): code is ErrorCode {
  return (errorCodes as readonly unknown[]).includes(code)
}

/** What Node.js throws: `path` of a file, `address` and `port` of a server. */
interface SystemError extends NodeJS.ErrnoException {
  address?: string
  port?: number
}

/** The system's message says neither in words what is wrong nor what to do. */
function describeSystemError(error: SystemError, file: string | undefined): string {
  const { code, syscall, address, port, path = file } = error
  const message = error.path === path ? error.message : `${error.message} '${path}'`
  if (code === 'EADDRINUSE' && port !== undefined)
    return `port ${port} of ${address} is in use (${code}): give another port, or end the program that listens there`
  if (code === 'EACCES' && port !== undefined)
    return `this user may not listen on port ${port} of ${address} (${code}): give a port above 1023`
  // The folders above it were made before: a file system such as /proc says this of any new one.
  if (code === 'ENOENT' && syscall === 'mkdir' && path !== undefined)
    return `the folder ${path} cannot be made (${code}): the one above takes no folders; give another place`
  if (code === 'ENOENT' && path !== undefined) return `there is no file or folder ${path} (${code}): check the name`
  if ((code === 'ENOTDIR' || code === 'EEXIST') && path !== undefined) {
    const found = `a file is where ${path} needs a folder (${code})`
    return `${found}: give another folder, or move the file away`
  }
  if (code === 'EISDIR' && path !== undefined) return `${path} is a folder (${code}): a file belongs there`
  if (code === 'ENOSPC') return `${message}: free some space on that disk, then try again`
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') return `${message}: check the folder's permissions`
  return message
}
