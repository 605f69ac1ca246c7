// Reads the fields of a request's body with the package's checks; errors name the field.
import { Checker, type JsonObject, show } from '../check.js'
import { toMorError } from '../errors.js'
import { invalidField } from './api_error.js'

/** A field that is null counts as left out. Every read throws ApiError 400 if the field is wrong. */
export class FieldReader {
  readonly #check: Checker

  /** @param where what the messages begin with */
  constructor(
    readonly body: JsonObject,
    where: string,
  ) {
    this.#check = new Checker(body, where)
  }

  value(key: string): unknown {
    return this.body[key] ?? null
  }

  has(key: string): boolean {
    return this.#check.has(key)
  }

  optional<T>(key: string, read: () => T): T | null {
    return this.has(key) ? read() : null
  }

  integer(key: string, range: Parameters<Checker['integer']>[1]): number {
    return this.read(key, (check) => check.integer(key, range))
  }

  number(key: string, range: Parameters<Checker['number']>[1]): number {
    return this.read(key, (check) => check.number(key, range))
  }

  /** A number that does not become infinite or 0 when the engine rounds it. */
  float32(key: string, range: Parameters<Checker['float32']>[1]): number {
    return this.read(key, (check) => check.float32(key, range))
  }

  boolean(key: string, fallback = false): boolean {
    return this.read(key, (check) => check.boolean(key, fallback))
  }

  text(key: string): string {
    return this.read(key, (check) => checkText(check, key))
  }

  /** Returns what `read` returns; errors of the checker become errors of the field `key`. */
  read<T>(key: string, read: (check: Checker) => T): T {
    try {
      return read(this.#check)
    } catch (error) {
      throw invalidField(key, toMorError(error).message, 'invalid_value')
    }
  }
}

/** Returns the text under `key`, which must not be empty; fails as the checker does. */
export function checkText(check: Checker, key: string): string {
  const value = check.object[key]
  if (typeof value === 'string' && value !== '') return value
  return check.fail(`${key} is ${describe(value)}; it must be a text that is not empty`)
}

/** Describes a value in messages. Arrays and objects are not printed, since they may be nested as deeply as a body can be. */
export function describe(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? 'an empty array' : `an array of ${value.length}`
  return typeof value === 'object' && value !== null ? 'an object' : show(value)
}
