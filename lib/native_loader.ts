// Finds and loads the native addon, once and only when something needs it.
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { MorError, wrapNative } from './errors.js'
import type { NativeAddon } from './native/addon.js'
import { checkNativeFile } from './native_file.js'
import { buildAdvice, buildCommand, nodeTooOld, supported, unsupportedReason } from './native_platform.js'

const requireFrom = createRequire(__filename)
export const packageRoot = join(__dirname, '..')

let addon: NativeAddon | undefined

/**
 * The addon of this package. Each worker thread gets its own instance.
 * @throws {MorError} PLATFORM_UNSUPPORTED or NATIVE_MISSING if there is no binary for this system; NATIVE_FOREIGN,
 * NATIVE_DAMAGED, NATIVE_LIBRARY_MISSING or NATIVE_REFUSED if there is one that cannot be loaded.
 */
export function loadNative(): NativeAddon {
  addon ??= loadNativeFrom(packageRoot)
  return addon
}

/** Loads the addon of the package whose root is `root`. */
export function loadNativeFrom(root: string): NativeAddon {
  const { path } = findNative(root)
  const mend = `Install the package again, or build the binary: ${buildCommand(root)}`
  wrapNative(() => checkNativeFile(path, mend))
  try {
    return requireFrom(path) as NativeAddon
  } catch (cause) {
    const reason = (cause as Error).message
    const refusal = `the native binary ${path} is there but does not load: ${reason}.`
    const unsupported = () =>
      new MorError('PLATFORM_UNSUPPORTED', `${refusal} Supported is ${supported}. ${buildAdvice(root)}`, { cause })
    // Some systems with musl are not known as such where a prebuilt binary is chosen.
    if (!isBuilt(root, path) && unsupportedReason() !== undefined) throw unsupported()
    const library = /(\S+): cannot open shared object file/.exec(reason)?.[1]
    if (library !== undefined)
      throw new MorError(
        'NATIVE_LIBRARY_MISSING',
        `${refusal} Install the library ${library} (it was looked for where the system keeps its libraries), or build the binary: ${buildCommand(root)}`,
        { cause },
      )
    if (/version `GLIBC_[\d.]+' not found/.test(reason)) throw unsupported()
    throw new MorError('NATIVE_REFUSED', `${refusal} ${mend}`, { cause })
  }
}

/** The binary that would be loaded, and why that one. */
export interface NativeBinary {
  path: string
  why: string
}

/**
 * The binary of the package whose root is `root`: that of the folder which the environment variable
 * MIXTURE_OF_RECURSIONS_PREBUILD names, else what was built here, else the prebuilt one for this system.
 * @throws {MorError} PLATFORM_UNSUPPORTED, NATIVE_MISSING
 */
export function findNative(root: string): NativeBinary {
  if (nodeTooOld())
    throw new MorError(
      'PLATFORM_UNSUPPORTED',
      `this is Node ${process.versions.node}; supported is ${supported}. Install a newer Node`,
    )
  const nodeGypBuild = requireFrom('node-gyp-build') as { path(root: string): string }
  const platform = `${process.platform}-${process.arch}`
  const forced = process.env.MIXTURE_OF_RECURSIONS_PREBUILD
  try {
    const path = resolve(nodeGypBuild.path(root))
    if (forced) return { path, why: `MIXTURE_OF_RECURSIONS_PREBUILD names ${forced}` }
    if (isBuilt(root, path)) return { path, why: 'it was built here, which goes before prebuilt ones' }
    return { path, why: `it is the prebuilt one for ${platform}` }
  } catch (cause) {
    const places = [join(root, 'build', 'Release'), join(root, 'build', 'Debug'), join(root, 'prebuilds', platform)]
    const looked = `looked for a .node file in ${forced ? `${forced}, which MIXTURE_OF_RECURSIONS_PREBUILD names` : places.join(', ')}`
    const unsupported = unsupportedReason()
    if (unsupported !== undefined)
      throw new MorError(
        'PLATFORM_UNSUPPORTED',
        `mixture-of-recursions has no binary for this system: ${unsupported}; supported is ${supported} (${looked}). ${buildAdvice(root)}`,
        { cause },
      )
    throw new MorError(
      'NATIVE_MISSING',
      `no native binary of mixture-of-recursions for ${platform} (Node ${process.versions.node}): ${looked}. Build it with: ${buildCommand(root)}`,
      { cause },
    )
  }
}

function isBuilt(root: string, path: string): boolean {
  return path.startsWith(join(resolve(root), 'build'))
}
