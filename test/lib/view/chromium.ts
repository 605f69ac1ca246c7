// Finds Chromium, and says so where it is not there. Must not hold any expectation.
import { existsSync } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'

const usualPaths = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome-stable',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
]

/** The program: CHROMIUM_PATH or where systems put it; null, with a line on the error stream, where there is none. */
export function findChromium(): string | null {
  const path = process.env.CHROMIUM_PATH ?? usualPaths.find((candidate) => existsSync(candidate))
  if (path !== undefined) return path
  process.stderr.write('SKIPPED: tests in a browser: no Chromium; install one or set CHROMIUM_PATH\n')
  return null
}

export function launch(executablePath: string): Promise<Browser> {
  // Continuous integration runs as root, for whom Chromium has no sandbox; the pages are our own.
  return chromium.launch({ executablePath, args: ['--no-sandbox'] })
}
