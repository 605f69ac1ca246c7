// Compares manifests with Kubernetes' API, as the compiler of TypeScript sees it: the package kubernetes-types is made from the API's
// description. Unlike the description itself, the compiler also refuses fields that the API does not know.
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Manifest } from './manifests.js'

const modules = resolve('node_modules')

/** What is wrong with each manifest. */
export async function problemsOf(manifests: readonly Manifest[]): Promise<string[][]> {
  const folder = await mkdtemp(join(tmpdir(), 'mor-manifests-'))
  try {
    const compilerOptions = {
      strict: true,
      noEmit: true,
      module: 'preserve',
      types: [],
      skipLibCheck: true,
      paths: { 'kubernetes-types/*': [join(modules, 'kubernetes-types', '*')] },
    }
    await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts'] }))
    await Promise.all(manifests.map((manifest, i) => writeFile(join(folder, `${i}.ts`), programOf(manifest))))
    const output = await compile(folder)
    const problems: string[][] = manifests.map(() => [])
    for (const line of output.split('\n').filter((line) => /^\S/.test(line))) {
      const [, file, problem] = /^(\d+)\.ts\(\d+,\d+\): error (TS\d+: .*)$/.exec(line) ?? []
      if (problem === undefined) throw new Error(`tsc says ${line}`)
      problems[Number(file)]!.push(problem)
    }
    return problems
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** A constant with the type of the manifest's kind. */
function programOf(manifest: Manifest): string {
  const group = manifest.apiVersion.includes('/') ? manifest.apiVersion : `core/${manifest.apiVersion}`
  return `import type { ${manifest.kind} } from ${JSON.stringify(`kubernetes-types/${group}`)}
export const manifest: ${manifest.kind} = ${JSON.stringify(manifest, null, 2)}`
}

/** What tsc writes; it fails where there is something to say. */
function compile(folder: string): Promise<string> {
  const tsc = join(modules, 'typescript', 'bin', 'tsc')
  return new Promise((done) => {
    execFile(
      process.execPath,
      [tsc, '--pretty', 'false', '--project', folder],
      { cwd: folder },
      (_error, stdout, stderr) => done(stdout + stderr),
    )
  })
}
