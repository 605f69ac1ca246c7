// Formats numbers for people.

/** 1234567 → `1.23M`. Three significant digits; whole below 1000. */
export function formatCount(value: number): string {
  return scaled(value, 1000, ['', 'K', 'M', 'G', 'T', 'P'], '')
}

/** 1536 → `1.5 KiB`. */
export function formatBytes(value: number): string {
  return scaled(value, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'], ' ')
}

function scaled(value: number, base: number, units: string[], space: string): string {
  let unit = 0
  let rest = value
  // Compared after rounding to three digits too, so that 999999 is 1M and not 1000K.
  while (Math.max(rest, Number(rest.toPrecision(3))) >= base && unit < units.length - 1) {
    rest /= base
    unit++
  }
  const digits =
    Number.isInteger(rest) && unit === 0 ? String(rest) : String(Number(rest.toPrecision(rest < 1000 ? 3 : 4)))
  return `${digits}${space}${units[unit]}`
}

/** Seconds → `45s`, `3m12s`, `2h05m`. */
export function formatDuration(seconds: number): string {
  const whole = Math.round(seconds)
  const pad = (value: number) => String(value).padStart(2, '0')
  if (whole < 60) return `${whole}s`
  if (whole < 3600) return `${Math.floor(whole / 60)}m${pad(whole % 60)}s`
  return `${Math.floor(whole / 3600)}h${pad(Math.floor((whole % 3600) / 60))}m`
}

/** Tokens by depth, from 1 on → their shares of all tokens, `42/33/25%`. */
export function formatShares(histogram: readonly number[], tokens: number): string {
  return `${histogram.map((count) => Math.round((100 * count) / Math.max(1, tokens))).join('/')}%`
}
