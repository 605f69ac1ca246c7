// Installs the packed package as a user would, in an empty project where no compiler and no Python can be found, without
// install scripts and without a network, and uses it in every way. Needs prebuilds/ (npm run package:native).
//   node test/package/install.mjs [--keep <folder>]    keeps the project there, for test/package/debian.sh
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')
const mostBytes = 100e6
const cycles = 100
/** Memory may grow from the 20th cycle to the 100th by this factor: heaps vary by about as much without a leak. */
const flat = 1.25

const { keep } = parseArgs({ options: { keep: { type: 'string' } } }).values
const folder = mkdtempSync(join(tmpdir(), 'mor-install-'))
const project = keep ?? join(folder, 'ein Projekt – проект')

/** Runs a command in the project with a PATH on which only Node, npm and the shell are. */
function run(command, args, { cwd = project } = {}) {
  const started = performance.now()
  const env = { HOME: process.env.HOME, PATH: join(folder, 'bin') }
  const output = execFileSync(command, args, { cwd, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  return { output, seconds: (performance.now() - started) / 1000 }
}

function step(name, body) {
  const started = performance.now()
  const note = body() ?? ''
  console.log(`${name} ${note}(${((performance.now() - started) / 1000).toFixed(1)} s)`)
}

/** Where a program is found on this machine's PATH. */
function find(program) {
  const found = process.env.PATH.split(delimiter)
    .map((directory) => join(directory, program))
    .find((path) => statSync(path, { throwIfNoEntry: false })?.isFile())
  assert.ok(found, `${program} is not on the PATH`)
  return found
}

function bytesOf(directory) {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0)
}

try {
  mkdirSync(join(folder, 'bin'))
  for (const program of ['node', 'npm', 'npx', 'sh', 'env']) symlinkSync(find(program), join(folder, 'bin', program))
  mkdirSync(project, { recursive: true })
  cpSync(join(root, 'test', 'package', 'project'), project, { recursive: true })
  writeFileSync(join(project, 'package.json'), '{"name":"project","private":true}\n')
  const inPackage = (...path) => join(project, 'node_modules', 'mixture-of-recursions', ...path)

  let tarball
  step('packed', () => {
    execFileSync('npm', ['pack', '--silent', '--pack-destination', folder], {
      cwd: root,
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    tarball = join(
      folder,
      readdirSync(folder).find((name) => name.endsWith('.tgz')),
    )
    return `${(statSync(tarball).size / 1e6).toFixed(1)} MB `
  })
  const install = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', tarball]
  step("npm's cache holds the dependencies", () => {
    const elsewhere = join(folder, 'elsewhere')
    mkdirSync(elsewhere)
    execFileSync('npm', [...install, '--prefer-offline'], { cwd: elsewhere, stdio: ['ignore', 'ignore', 'inherit'] })
  })
  step('installed without network and scripts', () => {
    run('npm', [...install, '--offline'])
    const bytes = bytesOf(inPackage())
    assert.ok(bytes < mostBytes, `the package has ${bytes} bytes; at most ${mostBytes} are wanted`)
    assert.ok(!readdirSync(inPackage()).includes('build'), 'the package holds a build folder')
    return `${(bytes / 1e6).toFixed(1)} MB `
  })
  step('require', () => void assert.equal(JSON.parse(run('node', ['use.cjs']).output).length, 8))
  step('import', () => void run('node', ['use.mjs']))
  step('TypeScript', () => {
    const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
    const types = ['--types', 'node', '--typeRoots', join(root, 'node_modules', '@types')]
    const common = [
      compiler,
      '--noEmit',
      '--strict',
      '--target',
      'es2022',
      '--lib',
      'es2022,esnext.disposable',
      ...types,
    ]
    run('node', [...common, '--module', 'node16', '--moduleResolution', 'node16', 'use.ts'])
    run('node', [...common, '--module', 'esnext', '--moduleResolution', 'bundler', 'use.ts'])
  })
  step('npx mor', () => {
    const report = JSON.parse(run('npx', ['--no-install', 'mor', 'doctor', '--json']).output)
    assert.equal(report.usable, true)
    assert.deepEqual(report.problems, [])
    assert.equal(dirname(report.binary.path), inPackage('prebuilds', `linux-${process.arch}`))
    assert.match(run('npx', ['--no-install', 'mor', 'inspect', '135M']).output, /"parameters"/)
  })
  step(`${cycles} worker threads load, use and close`, () => {
    const [early, late] = JSON.parse(run('node', ['cycles.cjs', `${cycles}`]).output)
    assert.ok(late < flat * early, `resident memory grew from ${early} to ${late} bytes`)
    return `${(early / 1e6).toFixed(0)} to ${(late / 1e6).toFixed(0)} MB `
  })
} finally {
  rmSync(folder, { recursive: true })
}
