// Physical memory of this process, as Linux counts it.
import { readFileSync } from 'node:fs'

/** Bytes at the moment (VmRSS) and at the peak (VmHWM). */
export function residentBytes(field: 'VmRSS' | 'VmHWM'): number {
  const match = new RegExp(`^${field}:\\s*(\\d+) kB`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))
  if (match === null) throw new Error(`no ${field} in /proc/self/status`)
  return Number(match[1]) * 1024
}
