// Physical memory of this process, from Linux's own count. Must not know what uses it.
import { readFileSync } from 'node:fs'

/** Now (VmRSS) and at its most (VmHWM), in bytes. */
export function residentBytes(field: 'VmRSS' | 'VmHWM'): number {
  const match = new RegExp(`^${field}:\\s*(\\d+) kB`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))
  if (match === null) throw new Error(`no ${field} in /proc/self/status`)
  return Number(match[1]) * 1024
}
