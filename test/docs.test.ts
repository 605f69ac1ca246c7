// What the documentation names must exist: sections that code cites, linked files, paths in backticks.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { filesIn, root } from './source_files.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const folders = ['bench', 'cuda', 'deploy', 'docs', 'lib', 'native', 'scripts', 'test']

const files = [
  ...readdirSync(root, { withFileTypes: true }).flatMap((entry) => (entry.isFile() ? [entry.name] : [])),
  ...folders.flatMap(filesIn),
]
const exists = new Set(files.flatMap((file) => [file, ...foldersOf(file)]))
const documents = files.filter((file) => file.endsWith('.md'))
const sources = files.filter((file) => /\.(h|cpp|cu|cuh|ts|mts|mjs|py|cmake|txt)$/.test(file))

const read = (file: string) => readFileSync(join(root, file), 'utf8')

/** Every folder that holds a file, and the folders that hold it. */
function foldersOf(file: string): string[] {
  const folder = dirname(file)
  return folder === '.' ? [folder] : [folder, ...foldersOf(folder)]
}

/** Numbers of the sections that have a heading of their own: `## 3. Title`. */
function sectionsOf(document: string): string[] {
  return [...read(document).matchAll(/^## (\d+)\. /gm)].map((match) => match[1]!)
}

/** Citations such as "docs/model.md sections 2 to 5"; a line break in a comment may stand anywhere in them. */
function citations(text: string): { document: string; sections: string[] }[] {
  const line = text.replace(/\s*\n\s*(\/\/+|\*|#)?\s*/g, ' ')
  return [...line.matchAll(/(docs\/[\w/-]+\.md) sections? (\d+(?:(?:,| and| to) \d+)*)/g)].map((match) => ({
    document: match[1]!,
    sections: match[2]!.match(/\d+/g)!,
  }))
}

/** A path as the documentation writes it: `<op>` and `*` stand for any name, `{a,b}` for either. */
function matches(path: string, file: string): boolean {
  const pattern = path
    .replace(/[.+()]/g, '\\$&')
    .replace(/<\w+>|\*+/g, '[^/]*')
    .replace(/\{([^}]*)\}/g, (_, names: string) => `(${names.split(',').join('|')})`)
  return new RegExp(`(^|/)${pattern}$`).test(file)
}

/** Whether the word is meant to be a file or folder of this repository. */
function isRepositoryPath(word: string): boolean {
  if (!/^[\w./<>*{},-]+$/.test(word)) return false
  return folders.includes(word.split('/')[0]!) ? word.includes('/') : /\w\.(h|cpp|cu|cuh|ts|mts|mjs|py|sh)$/.test(word)
}

describe('documentation', () => {
  it('has every section that is cited', () => {
    const cited = [...sources, ...documents].flatMap((file) =>
      citations(read(file)).map((citation) => ({ file, ...citation })),
    )
    expect(cited.filter(({ document }) => document === 'docs/model.md').length).toBeGreaterThan(30)
    for (const { file, document, sections } of cited) {
      expect(files, `${file} cites ${document}`).toContain(document)
      const known = sectionsOf(document)
      for (const section of sections) expect(known, `${file} cites ${document} section ${section}`).toContain(section)
    }
  })

  it('has every document that is named', () => {
    for (const file of [...sources, ...documents]) {
      for (const [document] of read(file).matchAll(/\bdocs\/[\w/-]+\.md/g)) expect(files, file).toContain(document)
    }
  })

  it('links to files that exist', () => {
    for (const file of documents) {
      for (const [, target] of read(file).matchAll(/\]\(([^)#\s]+)[^)]*\)/g)) {
        if (/^\w+:/.test(target!)) continue
        expect([...exists], `${file} links to ${target}`).toContain(relative(root, join(root, dirname(file), target!)))
      }
    }
  })

  it('names paths that exist', () => {
    const missing: string[] = []
    for (const file of documents) {
      for (const [, word] of read(file).matchAll(/`([^`\s]+)`/g)) {
        const path = word!.replace(/\/$/, '')
        if (!isRepositoryPath(word!)) continue
        if (![...exists].some((known) => matches(path, known))) missing.push(`${file}: ${word}`)
      }
    }
    expect(missing).toEqual([])
  })
})
