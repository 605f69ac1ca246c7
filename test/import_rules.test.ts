// No file may import itself by way of others: neither TypeScript, types included, nor C++ and CUDA headers. What is imported from a
// package when it is needed must be there under Node.js itself, which finds fewer names of CommonJS packages than the test runner.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { expect, it } from 'vitest'
import { filesIn, root } from './source_files.js'

/** Files of the project that each file names, by paths from the root. */
type Graph = Map<string, string[]>

/** @param pattern its first group is the name of what is imported */
function graphOf(
  folders: string[],
  ending: RegExp,
  pattern: RegExp,
  resolve: (file: string, name: string) => string[],
): Graph {
  const files = folders.flatMap(filesIn).filter((file) => ending.test(file))
  return new Map(
    files.map((file) => {
      const names = [...readFileSync(join(root, file), 'utf8').matchAll(pattern)].map((match) => match[1] as string)
      return [file, names.flatMap((name) => resolve(file, name))]
    }),
  )
}

/** Each circle once, as the files on it in order. Walks depth first; a step to a file that is still open closes a circle. */
function circles(graph: Graph): string[] {
  const found: string[] = []
  const done = new Set<string>()
  const open: string[] = []
  const visit = (file: string): void => {
    if (open.includes(file)) found.push([...open.slice(open.indexOf(file)), file].join(' -> '))
    if (done.has(file) || open.includes(file)) return
    open.push(file)
    for (const next of graph.get(file) ?? []) visit(next)
    open.pop()
    done.add(file)
  }
  for (const file of graph.keys()) visit(file)
  return found
}

it('finds a circle, of one file too, and no circle where two ways lead to one file', () => {
  const graph = { a: ['b', 'c'], b: ['d'], c: ['d'], d: [], e: ['f'], f: ['g', 'd'], g: ['e'], h: ['h'] }
  expect(circles(new Map(Object.entries(graph)))).toEqual(['e -> f -> g -> e', 'h -> h'])
})

it('TypeScript files import one another one way', () => {
  const graph = graphOf(['lib', 'bench'], /\.ts$/, /(?:\bfrom|\bimport|\bimport\()\s*'(\.[^']+)'/g, (file, name) => [
    normalize(join(dirname(file), name)).replace(/\.js$/, '.ts'),
  ])
  expect([...graph.values()].flat().length).toBeGreaterThan(300)
  for (const [file, imports] of graph)
    for (const name of imports) expect(graph.has(name), `${file}: ${name}`).toBe(true)
  expect(circles(graph)).toEqual([])
})

it('headers include one another one way', () => {
  const graph = graphOf(['native', 'cuda'], /\.(h|cuh)$/, /^\s*#\s*include\s+"([^"]+)"/gm, (_, name) =>
    [name, join('native', name)].filter((path) => existsSync(join(root, path))),
  )
  expect([...graph.values()].flat().length).toBeGreaterThan(100)
  expect(circles(graph)).toEqual([])
})

it('names imported from packages when they are needed are there under Node.js', { timeout: 60_000 }, () => {
  const imports = filesIn('lib')
    .filter((file) => file.endsWith('.ts'))
    .flatMap((file) => [
      ...readFileSync(join(root, file), 'utf8').matchAll(/const \{ ([\w, ]+) \} = await import\('([^.'][^']*)'\)/g),
    ])
    .map(([, names, specifier]) => ({ specifier: specifier!, names: names!.split(', ') }))
  expect(imports.length).toBeGreaterThan(3)
  const program = `
    Promise.all(${JSON.stringify(imports)}.map(async ({ specifier, names }) => {
      const found = await import(specifier)
      return names.filter((name) => found[name] === undefined).map((name) => name + ' of ' + specifier)
    })).then((missing) => console.log(JSON.stringify(missing.flat())))`
  // Without what the runner of these tests has put into the environment.
  const output = execFileSync(process.execPath, ['-e', program], { cwd: root, env: { PATH: process.env.PATH } })
  expect(JSON.parse(output.toString())).toEqual([])
})
