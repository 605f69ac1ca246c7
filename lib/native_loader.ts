// Finds and loads the native addon, once and only when something needs it.
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { MorError } from './errors.js'
import type { NativeAddon } from './native.js'

const requireFrom = createRequire(__filename)
const packageRoot = join(__dirname, '..')

let addon: NativeAddon | undefined

/**
 * The addon of this package. Each worker thread gets its own instance.
 * @throws {MorError} NATIVE_MISSING if no binary fits this platform or the one that does cannot be loaded.
 */
export function loadNative(): NativeAddon {
  addon ??= loadNativeFrom(packageRoot)
  return addon
}

/** Loads the addon of the package whose root is `root`: `build/Release` first, then `prebuilds/<platform>-<arch>`. */
export function loadNativeFrom(root: string): NativeAddon {
  const platform = `${process.platform}-${process.arch}`
  const build = `(cd ${JSON.stringify(root)} && npm install && npm run build:native)`
  const nodeGypBuild = requireFrom('node-gyp-build') as { path(root: string): string }
  let binary: string
  try {
    binary = nodeGypBuild.path(root)
  } catch (cause) {
    throw new MorError(
      'NATIVE_MISSING',
      `no native binary of mixture-of-recursions for ${platform} (Node ${process.versions.node}): looked for a .node file in ` +
        `${join(root, 'build', 'Release')}, ${join(root, 'build', 'Debug')} and ${join(root, 'prebuilds', platform)}. ` +
        `Build it with: ${build}`,
      { cause },
    )
  }
  try {
    return requireFrom(binary) as NativeAddon
  } catch (cause) {
    throw new MorError(
      'NATIVE_MISSING',
      `the native binary ${binary} is there but does not load: ${(cause as Error).message}. ` +
        `If a library it names is missing, install that; otherwise rebuild with: ${build}`,
      { cause },
    )
  }
}
