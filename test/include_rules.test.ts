// The include rules of docs/architecture.md as one table, checked over every C++ and CUDA file.
// Must not know what the files do.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { filesIn, root } from './source_files.js'

/** Which folders of the project a folder may include from. */
const mayInclude: Record<string, string[]> = {
  core: ['core'],
  ops: ['ops', 'core'],
  cpu: ['cpu', 'ops', 'core'],
  cuda: ['cuda', 'distributed', 'ops', 'core'],
  distributed: ['distributed', 'core'],
  model: ['model', 'ops', 'core'],
  train: ['train', 'distributed', 'model', 'ops', 'core'],
  checkpoint: ['checkpoint', 'train', 'model', 'ops', 'core'],
  engine: ['engine', 'model', 'ops', 'core'],
  device: ['device', 'cpu', 'cuda', 'distributed', 'ops', 'core'],
  binding: ['binding', 'checkpoint', 'train', 'engine', 'model', 'device', 'distributed', 'ops', 'core'],
}

/** Files that run and are tested with no device: they see core and each other only. */
const deviceFree =
  /^native\/(engine\/(scheduler|block_pool|prefix_cache|sequence|request|logit_edits)\w*\.(h|cpp)|model\/routing_rules\.h)$/
const deviceFreeMayInclude =
  /^(core\/|engine\/(scheduler|block_pool|prefix_cache|sequence|request|logit_edits)|model\/routing_rules\.h$)/

/** What other folders may include of a device. */
const door: Record<string, string> = { cpu: 'cpu/cpu_device.h', cuda: 'cuda/cuda_device.h' }

/** Outside headers, and the only files that may include them. */
const onlyIn: [header: RegExp, where: RegExp][] = [
  [/^(napi|node_api|uv|v8|node)\.h$/, /^native\/binding\//],
  [
    /^(cu\w*\.h|cuda\/std|cub\/|nvtx|cooperative_groups|mma\.h)/,
    /^(cuda\/(?!cuda_device\.h)|test\/cuda(_host)?\/|bench\/gpu\/)/,
  ],
  [/^(oneapi\/|dnnl)/, /^bench\/baselines\//],
  [/^omp\.h$/, /^bench\/baselines\//],
]

function sources(folder: string): string[] {
  if (!existsSync(join(root, folder))) return []
  return filesIn(folder).filter((file) => /\.(h|hpp|cpp|cu|cuh)$/.test(file))
}

function includes(file: string): { header: string; quoted: boolean }[] {
  const text = readFileSync(join(root, file), 'utf8')
  return [...text.matchAll(/^\s*#\s*include\s+(["<])([^">]+)[">]/gm)].map((match) => ({
    header: match[2] as string,
    quoted: match[1] === '"',
  }))
}

function folderOf(file: string): string {
  const parts = file.split('/')
  return (parts[0] === 'native' ? parts[1] : parts[0]) as string
}

describe('include rules', () => {
  const files = [...sources('native'), ...sources('cuda')]

  it('covers every folder of the native core', () => {
    expect(files.length).toBeGreaterThan(50)
    for (const file of files) expect(Object.keys(mayInclude), file).toContain(folderOf(file))
  })

  it('lets includes go one way', () => {
    const broken: string[] = []
    for (const file of files) {
      for (const { header, quoted } of includes(file)) {
        const target = header.split('/')[0] as string
        if (!quoted || !header.includes('/')) continue
        if (!mayInclude[folderOf(file)]?.includes(target)) broken.push(`${file} includes ${header}`)
        if (deviceFree.test(file) && !deviceFreeMayInclude.test(header)) broken.push(`${file} includes ${header}`)
      }
    }
    expect(broken).toEqual([])
  })

  it('shows each device by its door only', () => {
    const broken: string[] = []
    for (const file of files) {
      for (const { header, quoted } of includes(file)) {
        const target = header.split('/')[0] as string
        const only = target === folderOf(file) ? undefined : door[target]
        if (quoted && only !== undefined && header !== only) broken.push(`${file} includes ${header}`)
      }
    }
    expect(broken).toEqual([])
  })

  it('keeps outside headers in their rooms', () => {
    const broken: string[] = []
    for (const file of [...files, ...sources('test'), ...sources('bench')]) {
      for (const { header } of includes(file)) {
        for (const [outside, where] of onlyIn) {
          if (outside.test(header) && !where.test(file)) broken.push(`${file} includes ${header}`)
        }
      }
    }
    expect(broken).toEqual([])
  })

  it('includes project headers by their path from the root, so that every include can be searched', () => {
    const broken: string[] = []
    for (const file of files) {
      for (const { header, quoted } of includes(file)) {
        if (quoted && !header.includes('/')) broken.push(`${file} includes ${header}`)
      }
    }
    expect(broken).toEqual([])
  })
})
