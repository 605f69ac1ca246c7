// node-llama-cpp as a rival: started on the weights of a contender of ours, and installed outside of what git tracks, once
// and only when the bench needs it: the npm package and its linux-x64 binary, without other platforms and without running an
// install script. Where an instruction set is forced, a second copy lacks the backends of more than that set.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Contender } from '../lib/contender.js'
import { forcedInstructionSet, type InstructionSet } from '../lib/instruction_set.js'
import { threads } from '../lib/machine.js'
import { showProgress } from '../lib/progress.js'
import { Rival } from '../lib/rival.js'
import { writeGguf } from './gguf.js'

const version = '3.22.1' // a fixed version, so that figures of different days can be compared
const rivals = join(__dirname, '.rivals')

/** The backends of llama.cpp by the set of ours whose instructions they use at most; it loads the best one it finds. */
const backends: Record<InstructionSet, readonly string[]> = {
  avx2: ['x64', 'sse42', 'sandybridge', 'ivybridge', 'piledriver', 'haswell'],
  avx512: ['skylakex', 'cannonlake', 'cascadelake', 'icelake'],
  avx512_bf16: ['cooperlake', 'zen4'],
  amx: ['sapphirerapids'],
  neon: [],
  neon_bf16: [],
}

/** Whether a file of the package is a backend that a processor with `set` and no more could not run. */
export function exceeds(file: string, set: InstructionSet): boolean {
  const name = /^libggml-cpu-(\w+)\.so$/.exec(file)?.[1]
  if (name === undefined) return false
  const sets = Object.keys(backends) as InstructionSet[]
  return !sets.slice(0, sets.indexOf(set) + 1).some((one) => backends[one].includes(name))
}

/** The URL to import. @throws {Error} if npm fails, with its command; its own output says why. */
export function installNodeLlamaCpp(set = forcedInstructionSet()): string {
  const folder = join(rivals, set ?? 'any')
  if (!existsSync(folder)) {
    showProgress('')
    const partial = `${folder}.partial`
    rmSync(partial, { recursive: true, force: true })
    mkdirSync(partial, { recursive: true })
    writeFileSync(join(partial, 'package.json'), '{ "private": true }\n')
    const packages = [`node-llama-cpp@${version}`, `@node-llama-cpp/linux-x64@${version}`]
    const options = ['--save-exact', '--omit=optional', '--ignore-scripts', '--no-audit', '--no-fund']
    execFileSync('npm', ['install', ...options, ...packages], { cwd: partial, stdio: ['ignore', 2, 2] })
    const binaries = join(partial, 'node_modules', '@node-llama-cpp', 'linux-x64', 'bins', 'linux-x64')
    for (const file of readdirSync(binaries)) if (set !== undefined && exceeds(file, set)) rmSync(join(binaries, file))
    renameSync(partial, folder)
  }
  return pathToFileURL(join(folder, 'node_modules', 'node-llama-cpp', 'dist', 'index.js')).href
}

/**
 * Starts it with the model of `ours`, a vanilla one, whose files go to `folder`. Where it cannot be installed or does not
 * start, it is lost. @param contextSize of one sequence.
 */
export function startNodeLlamaCpp(
  ours: Contender,
  folder: string,
  { sequences, contextSize }: { sequences: number; contextSize: number },
): Promise<Rival> {
  return Rival.start(async () => {
    installNodeLlamaCpp()
    await ours.ask('save', { folder })
    const path = join(folder, 'vanilla.gguf')
    await writeGguf(folder, path)
    showProgress('starting node-llama-cpp')
    const rival = await Contender.startTypeScript(join(__dirname, 'node_llama_cpp.ts'))
    await rival.ask('load', { path, threads, sequences, contextSize })
    return rival
  })
}
