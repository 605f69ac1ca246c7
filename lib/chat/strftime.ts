// Dates in templates as Python writes them.

const days = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
const months = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
]

const directives: Record<string, (date: Date) => string | number> = {
  a: (date) => days[date.getDay()]!.slice(0, 3),
  A: (date) => days[date.getDay()]!,
  b: (date) => months[date.getMonth()]!.slice(0, 3),
  B: (date) => months[date.getMonth()]!,
  d: (date) => twoDigits(date.getDate()),
  e: (date) => String(date.getDate()).padStart(2),
  H: (date) => twoDigits(date.getHours()),
  I: (date) => twoDigits(date.getHours() % 12 || 12),
  j: (date) => String(dayOfYear(date)).padStart(3, '0'),
  m: (date) => twoDigits(date.getMonth() + 1),
  M: (date) => twoDigits(date.getMinutes()),
  p: (date) => (date.getHours() < 12 ? 'AM' : 'PM'),
  S: (date) => twoDigits(date.getSeconds()),
  y: (date) => twoDigits(date.getFullYear() % 100),
  Y: (date) => date.getFullYear(),
  '%': () => '%',
}

/**
 * The date in local time, as `datetime.strftime` of Python has it in the C locale. `%-d` leaves out zeros before a number.
 * Other directives stay as they are.
 */
export function strftime(date: Date, format: string): string {
  return format.replace(/%(-?)(.)/gs, (whole, minus: string, letter: string) => {
    const directive = Object.hasOwn(directives, letter) ? directives[letter]! : null
    if (directive === null) return whole
    const text = String(directive(date))
    return minus === '' ? text : text.replace(/^[0 ]+(?=.)/, '')
  })
}

function twoDigits(value: number): string {
  return String(value).padStart(2, '0')
}

function dayOfYear(date: Date): number {
  const start = Date.UTC(date.getFullYear(), 0, 1)
  return (Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) - start) / 86_400_000 + 1
}
