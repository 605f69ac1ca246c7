// The TypeScript in the documentation compiles against the package's types.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import * as exported from '../lib/index.js'
import { root } from './source_files.js'

// It lies in the project, where the packages that samples import are found.
mkdirSync(join(root, 'build'), { recursive: true })
const folder = mkdtempSync(join(root, 'build', 'samples-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** What samples use without saying where it comes from: what the package exports, and objects that earlier samples made. */
const given = `import type * as mor from '${root}/lib/index.js'
declare global {
${Object.keys(exported)
  .map((name) => `  const ${name}: typeof mor.${name}`)
  .join('\n')}
  const model: mor.Model
  const tokenizer: mor.Tokenizer
  const trainer: mor.Trainer
  const batch: number[][], rows: number[][], targets: number[][]
  function rowsOf(rank: number): number[][]
}
`

/** An array that is indexed has the element, as with TypeScript's usual strictness. */
const configuration = {
  extends: join(root, 'tsconfig.json'),
  compilerOptions: {
    noUncheckedIndexedAccess: false,
    noUnusedLocals: false,
    paths: {
      'mixture-of-recursions': [join(root, 'lib/index.ts')],
      'mixture-of-recursions/ai-sdk': [join(root, 'lib/ai_sdk/index.ts')],
      'mixture-of-recursions/server': [join(root, 'lib/server/index.ts')],
    },
  },
  include: ['*.ts'],
  exclude: [],
}

function samplesOf(document: string): string[] {
  const text = readFileSync(join(root, document), 'utf8')
  return [...text.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map((match) => match[1]!)
}

/** A sample may await and may declare what another one declares, so it becomes the body of a function. */
function moduleOf(sample: string): string {
  const lines = sample.split('\n')
  const imports = lines.filter((line) => line.startsWith('import '))
  const body = lines.filter((line) => !line.startsWith('import '))
  return [...imports, 'export async function sample() {', ...body, '}', ''].join('\n')
}

it('compiles', { timeout: 120_000 }, () => {
  const pages = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md'))
  const documents = ['README.md', ...pages.map((name) => join('docs', name))]
  const samples = documents.flatMap((document) => samplesOf(document).map((sample, i) => ({ document, sample, i })))
  expect(samples.length).toBeGreaterThan(7)
  for (const { document, sample, i } of samples)
    writeFileSync(join(folder, `${document.replace(/\W/g, '_')}_${i + 1}.ts`), moduleOf(sample))
  writeFileSync(join(folder, 'given.d.ts'), given)
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(configuration))
  let complaints = ''
  try {
    execFileSync(join(root, 'node_modules', '.bin', 'tsc'), ['-p', folder], { encoding: 'utf8' })
  } catch (error) {
    complaints = (error as { stdout: string }).stdout || String(error)
  }
  expect(complaints).toBe('')
})
