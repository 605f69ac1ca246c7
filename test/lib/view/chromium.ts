// Finds Chromium, and reports if it is missing.
import { existsSync } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'

const usualPaths = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome-stable',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
]

/** The program's path: CHROMIUM_PATH or a usual place; null, and a line on standard error, if there is none. */
export function findChromium(): string | null {
  const path = process.env.CHROMIUM_PATH ?? usualPaths.find((candidate) => existsSync(candidate))
  if (path !== undefined) return path
  process.stderr.write('SKIPPED: tests in a browser: no Chromium; install one or set CHROMIUM_PATH\n')
  return null
}

export function launch(executablePath: string): Promise<Browser> {
  // Continuous integration runs as root, for which Chromium has no sandbox. The pages are our own, so none is needed.
  return chromium.launch({ executablePath, args: ['--no-sandbox'] })
}
