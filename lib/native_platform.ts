// Which systems the package runs on, and what somebody on another one reads.
import { join } from 'node:path'

/** What the prebuilt binaries need; README says the same. */
export const supported =
  'Linux on x64 or arm64 with glibc 2.31 or newer (Debian 11, Ubuntu 20.04, RHEL 9 and later), and Node 20.4 or newer'

/** Whether this Node is too old for the package, whose code and dependencies need a newer one. */
export function nodeTooOld(): boolean {
  const [major, minor] = process.versions.node.split('.').map(Number) as [number, number]
  return major < 20 || (major === 20 && minor < 4)
}

/** The version of glibc, or undefined where the C library is another one, such as musl. */
export function glibcVersion(): string | undefined {
  const report = process.report as NodeJS.ProcessReport & { excludeNetwork?: boolean }
  report.excludeNetwork = true // or the report would look up the names of this machine's connections
  const { header } = report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
  return header.glibcVersionRuntime
}

/** The command that builds the addon of the package at `root` from source. */
export function buildCommand(root: string): string {
  return `(cd ${JSON.stringify(root)} && npm install --include=dev && npm run build:native)`
}

/** How to get an addon where no prebuilt one fits. */
export function buildAdvice(root: string): string {
  if (process.platform !== 'linux')
    return 'There is no build for other systems: run it in Linux, for example in a container or, on Windows, in WSL'
  return `Build it from source with g++ 12 or newer and CMake 3.25 or newer (${join(root, 'README.md')} says how): ${buildCommand(root)}`
}

/** Why this system has no prebuilt binary, or undefined where it has one. */
export function unsupportedReason(): string | undefined {
  if (process.platform !== 'linux') return `this is ${process.platform}`
  if (process.arch !== 'x64' && process.arch !== 'arm64') return `this is ${process.platform} on ${process.arch}`
  if (glibcVersion() === undefined) return 'the C library of this Linux is not glibc'
  return undefined
}
