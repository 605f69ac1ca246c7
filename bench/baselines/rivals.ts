// Installs node-llama-cpp outside of what git tracks, once and only when the bench needs it: the npm package and its
// linux-x64 binary, without other platforms and without running an install script.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const version = '3.22.1' // a fixed version, so that figures of different days can be compared
const folder = join(__dirname, '.rivals')
const entry = join(folder, 'node_modules', 'node-llama-cpp', 'dist', 'index.js')
const binary = join(folder, 'node_modules', '@node-llama-cpp', 'linux-x64')

/** The URL to import. @throws {Error} if npm fails; its own output says why. */
export function installNodeLlamaCpp(): string {
  if (!existsSync(entry) || !existsSync(binary)) {
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
    const packages = [`node-llama-cpp@${version}`, `@node-llama-cpp/linux-x64@${version}`]
    const options = ['--save-exact', '--omit=optional', '--ignore-scripts', '--no-audit', '--no-fund']
    execFileSync('npm', ['install', ...options, ...packages], { cwd: folder, stdio: ['ignore', 2, 2] })
  }
  return pathToFileURL(entry).href
}
