// Checks of single values that came from outside: type, range, choice, unknown keys.
import { type ErrorCode, MorError } from './errors.js'
import { suggestion } from './suggest.js'

export type JsonObject = Record<string, unknown>

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Reads checked values out of one plain object; every message starts with `where`, every error has `code`. */
export class Checker {
  constructor(
    readonly object: JsonObject,
    private readonly where: string,
    private readonly code: ErrorCode = 'INVALID_ARGUMENT',
  ) {}

  /** Checks that `value` is a plain object before making a checker of it. */
  static of(value: unknown, where: string, code?: ErrorCode): Checker {
    if (!isObject(value)) {
      throw new MorError(code ?? 'INVALID_ARGUMENT', `${where} is ${show(value)}; it must be an object`)
    }
    if (value instanceof Map || value instanceof Set) {
      const text = `${where} is a ${value.constructor.name}, whose entries are no keys of an object; it must be a plain object`
      throw new MorError(code ?? 'INVALID_ARGUMENT', text)
    }
    return new Checker(value as JsonObject, where, code)
  }

  /** Of the object under `key`. */
  child(key: string): Checker {
    return Checker.of(this.object[key], `${this.where}: ${key}`, this.code)
  }

  /** Without the keys whose values are `unwanted`. */
  without(unwanted: (value: unknown) => boolean): Checker {
    const kept = Object.entries(this.object).filter(([, value]) => !unwanted(value))
    return new Checker(Object.fromEntries(kept), this.where, this.code)
  }

  /** Warns of two values that disagree and says which counts. */
  warn(message: string): void {
    process.emitWarning(`${this.where}: ${message}`, { code: 'MOR_CONFIG_CONFLICT' })
  }

  fail(message: string): never {
    throw new MorError(this.code, `${this.where}: ${message}`)
  }

  /** Fails on the first key of the object that is not in `known`. */
  onlyKeys(known: Iterable<string>): void {
    const names = new Set(known)
    for (const key of Object.keys(this.object)) {
      if (!names.has(key)) this.fail(`unknown key "${key}"${suggestion(key, names)}`)
    }
  }

  /** True if the key is there with a value other than undefined or null. */
  has(key: string): boolean {
    return (this.object[key] ?? null) !== null
  }

  integer(key: string, range: { min: number; max?: number; fallback?: number }): number {
    const value = this.valueOf(key, range.fallback)
    const max = range.max ?? 2 ** 31 - 1
    if (!Number.isSafeInteger(value) || (value as number) < range.min || (value as number) > max) {
      this.fail(`${key} is ${show(value)}; it must be an integer from ${range.min} to ${max}`)
    }
    return value as number
  }

  /** A finite number with min <= value <= max; `above` and `below` are exclusive bounds. */
  number(
    key: string,
    range: { min?: number; max?: number; above?: number; below?: number; fallback?: number },
  ): number {
    const value = this.valueOf(key, range.fallback)
    const { min = -Infinity, max = Infinity, above = -Infinity, below = Infinity } = range
    const number = value as number
    if (!Number.isFinite(value) || number < min || number > max || number <= above || number >= below) {
      const bounds = [
        range.above !== undefined && `> ${above}`,
        range.min !== undefined && `>= ${min}`,
        range.below !== undefined && `< ${below}`,
        range.max !== undefined && `<= ${max}`,
      ].filter(Boolean)
      this.fail(`${key} is ${show(value)}; it must be a finite number ${bounds.join(' and ')}`.trimEnd())
    }
    return number
  }

  /** As `number`, for a value that is computed with in float32: it must not become infinite there or, unless it is 0, 0. */
  float32(key: string, range: Parameters<Checker['number']>[1]): number {
    const value = this.number(key, range)
    const rounded = Math.fround(value)
    if (!Number.isFinite(rounded) || (rounded === 0 && value !== 0)) {
      this.fail(`${key} is ${value}, which in float32 becomes ${rounded}; it must be between 1e-45 and 3.4e38`)
    }
    return value
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.valueOf(key, fallback)
    if (typeof value !== 'boolean') this.fail(`${key} is ${show(value)}; it must be true or false`)
    return value
  }

  choice<T extends string>(key: string, choices: readonly T[], fallback?: T): T {
    const value = this.valueOf(key, fallback)
    if (!(choices as readonly unknown[]).includes(value)) {
      const near = typeof value === 'string' ? suggestion(value, choices) : ''
      this.fail(`${key} is ${show(value)}; it must be ${choices.map(show).join(' or ')}${near}`)
    }
    return value as T
  }

  /** A text that is not empty. */
  text(key: string, fallback?: string): string {
    const value = this.valueOf(key, fallback)
    if (typeof value !== 'string' || value === '')
      this.fail(`${key} is ${show(value)}; it must be a text that is not empty`)
    return value
  }

  /** Undefined where it is left out. */
  callback<T extends (...args: never[]) => unknown>(key: string): T | undefined {
    const value = this.object[key] ?? undefined
    if (value !== undefined && typeof value !== 'function') this.fail(`${key} is ${show(value)}; it must be a function`)
    return value as T | undefined
  }

  /** The value of `signal`; undefined where it is left out. */
  signal(): AbortSignal | undefined {
    const signal = (this.object.signal ?? undefined) as AbortSignal | undefined
    if (signal === undefined) return undefined
    const isSignal = typeof signal.aborted === 'boolean' && typeof signal.addEventListener === 'function'
    if (!isSignal || typeof signal.removeEventListener !== 'function')
      this.fail(`signal is ${show(signal)}; it must be an AbortSignal`)
    return signal
  }

  private valueOf(key: string, fallback: unknown): unknown {
    const value = this.object[key] ?? fallback
    if (value === undefined) this.fail(`${key} is missing`)
    return value
  }
}

/** @throws {MorError} INVALID_ARGUMENT unless `value` can name a file or folder */
export function checkPath(value: unknown, where: string): void {
  if (typeof value === 'string' && value !== '' && !value.includes('\0')) return
  throw new MorError(
    'INVALID_ARGUMENT',
    `${where} is ${show(value)}; it must be a path: a text that is neither empty nor holds NUL`,
  )
}

/** A copy of a list of at least one path. @throws {MorError} INVALID_ARGUMENT for anything else */
export function checkPaths(values: unknown, where: string): string[] {
  if (!Array.isArray(values) || values.length === 0) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `${where}: the files are ${show(values)}; they must be a list of at least one path`,
    )
  }
  for (const [i, value] of values.entries()) checkPath(value, `${where}: file ${i + 1}`)
  return [...values]
}

/** @throws {MorError} INVALID_ARGUMENT unless `value` is a text */
export function checkText(value: unknown, where: string): void {
  if (typeof value !== 'string') throw new MorError('INVALID_ARGUMENT', `${where} is ${show(value)}; it must be a text`)
}

/** @throws {MorError} INVALID_ARGUMENT unless every one of `values` is a text */
export function checkTexts(values: unknown, where: string): void {
  if (!Array.isArray(values))
    throw new MorError('INVALID_ARGUMENT', `${where} is ${show(values)}; it must be an array of texts`)
  for (const [i, value] of values.entries()) checkText(value, `${where}[${i}]`)
}

/** A short printable form of any value, for messages. */
export function show(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'number' || value === undefined) return String(value)
  try {
    const text = JSON.stringify(value) ?? String(value)
    return text.length > 80 ? `${text.slice(0, 77)}...` : text
  } catch {
    // Nested too deep for the stack, or nothing that JSON can hold.
    return Array.isArray(value) ? 'an array' : 'an object'
  }
}
