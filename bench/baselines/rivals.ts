// node-llama-cpp as a rival: started on the weights of a contender of ours, and installed outside of what git tracks, once and only when the bench needs it: the npm package and its
// linux-x64 binary, without other platforms and without running an install script.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Contender } from '../lib/contender.js'
import { threads } from '../lib/machine.js'
import { writeGguf } from './gguf.js'

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

/** Starts it with the model of `ours`, a vanilla one, whose files go to `folder`. @param contextSize of one sequence. */
export async function startNodeLlamaCpp(
  ours: Contender,
  folder: string,
  { sequences, contextSize }: { sequences: number; contextSize: number },
): Promise<Contender> {
  await ours.ask('save', { folder })
  const path = join(folder, 'vanilla.gguf')
  await writeGguf(folder, path)
  const rival = await Contender.startTypeScript(join(__dirname, 'node_llama_cpp.ts'))
  await rival.ask('load', { path, threads, sequences, contextSize })
  return rival
}
