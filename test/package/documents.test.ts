// The package holds the pages that its README and its commands name.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { filesIn, root } from '../source_files.js'

it('holds the documents that are named', { timeout: 60_000 }, () => {
  const listed = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: root,
    encoding: 'utf8',
  })
  const packed = (JSON.parse(listed) as [{ files: { path: string }[] }])[0].files.map(({ path }) => path)
  const sources = ['README.md', ...filesIn('lib')]
  const named = sources.flatMap(
    (file) => readFileSync(join(root, file), 'utf8').match(/docs\/[\w/-]+\.(md|svg)/g) ?? [],
  )
  expect(named.length).toBeGreaterThan(20)
  expect([...new Set(named)].filter((document) => !packed.includes(document))).toEqual([])
})
