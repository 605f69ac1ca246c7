// Parses the values of command-line options, and says what is expected if one is wrong.
import { InvalidArgumentError } from 'commander'

/** A parser of integers in [min, max]. */
export function integer(min: number, max = Number.MAX_SAFE_INTEGER) {
  return (text: string): number => {
    const value = Number(text)
    if (text.trim() !== '' && Number.isSafeInteger(value) && value >= min && value <= max) return value
    const range = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`
    throw new InvalidArgumentError(`It must be an integer ${range}.`)
  }
}

/** Parses numbers between commas. */
export function integers(text: string): number[] {
  return text.split(',').map(integer(0))
}

/** A parser of numbers in [min, max]. */
export function number(min: number, max = Number.POSITIVE_INFINITY) {
  return (text: string): number => {
    const value = Number(text)
    if (text.trim() !== '' && Number.isFinite(value) && value >= min && value <= max) return value
    const range = max === Number.POSITIVE_INFINITY ? `of at least ${min}` : `from ${min} to ${max}`
    throw new InvalidArgumentError(`It must be a number ${range}.`)
  }
}

/** A parser of texts that are not empty. */
export function notEmpty(text: string): string {
  if (text !== '') return text
  throw new InvalidArgumentError('It is empty: give a value, or leave it out.')
}
