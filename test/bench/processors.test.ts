// Tests of what depends on the class of the processor: where results are kept and how rivals are held to a set.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { exceeds } from '../../bench/baselines/rivals.js'
import { vectorBits } from '../../bench/lib/ceilings.js'
import { heldToSet, rivalLimits } from '../../bench/lib/instruction_set.js'
import { showProgress } from '../../bench/lib/progress.js'
import { resultPath } from '../../bench/lib/results.js'
import { blasAdvice, blasOf } from '../../bench/train/contenders.js'

const root = join(__dirname, '..', '..')

describe('results', () => {
  test.each([
    ['cpu', 'avx2', 'avx2'],
    ['cpu', 'amx', 'amx'],
    ['cuda:0', 'amx', 'cuda'],
  ] as const)('of %s with %s are in the folder %s', (device, set, folder) => {
    expect(resultPath('train', device, set)).toBe(join(root, 'bench', 'results', folder, 'train.json'))
  })

  test('that are recorded lie in the folder of their class, named by their bench', () => {
    const results = join(root, 'bench', 'results')
    for (const folder of readdirSync(results)) {
      expect(['avx2', 'avx512', 'avx512_bf16', 'amx', 'neon', 'neon_bf16', 'cuda']).toContain(folder)
      for (const file of readdirSync(join(results, folder))) {
        const { bench } = JSON.parse(readFileSync(join(results, folder, file), 'utf8')) as { bench: string }
        expect(file).toBe(`${bench}.json`)
      }
    }
    expect(existsSync(resultPath('train', 'cpu', 'amx'))).toBe(true)
  })
})

describe('rivals', () => {
  test('are held to a forced set, and are free without one', () => {
    expect(rivalLimits('avx2')).toEqual({
      ATEN_CPU_CAPABILITY: 'avx2',
      ONEDNN_MAX_CPU_ISA: 'AVX2',
      OPENBLAS_CORETYPE: 'Haswell',
    })
    expect(rivalLimits('amx')).toEqual({})
    expect(heldToSet('avx512')).toBe(', held to avx512')
  })

  test('keep the backends of llama.cpp up to the set', () => {
    const kept = (set: 'avx2' | 'avx512' | 'avx512_bf16' | 'amx') =>
      ['haswell', 'skylakex', 'zen4', 'sapphirerapids'].filter((name) => !exceeds(`libggml-cpu-${name}.so`, set))
    expect(kept('avx2')).toEqual(['haswell'])
    expect(kept('avx512')).toEqual(['haswell', 'skylakex'])
    expect(kept('avx512_bf16')).toEqual(['haswell', 'skylakex', 'zen4'])
    expect(kept('amx')).toEqual(['haswell', 'skylakex', 'zen4', 'sapphirerapids'])
    expect(exceeds('libggml-base.so', 'avx2')).toBe(false)
  })

  test.each([
    ['/usr/lib/x86_64-linux-gnu/blas/libblas.so.3.11.0', 'reference'],
    ['/usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3', 'OpenBLAS'],
    ['/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblasp-r0.3.21.so', 'OpenBLAS'],
    ['/usr/lib/x86_64-linux-gnu/blis-pthread/libblas.so.3', 'BLIS'],
    ['/usr/lib/x86_64-linux-gnu/libmkl_core.so', 'MKL'],
    ['/usr/lib/x86_64-linux-gnu/libcblas.so.3', 'unknown'],
  ])('that load %s multiply with %s', (file, blas) => {
    expect(blasOf(['/usr/lib/x86_64-linux-gnu/libtorch_cpu.so', file])).toBe(blas)
  })

  test.each([
    ['reference', undefined, 'apt-get install libopenblas0-pthread'],
    ['reference', 'avx2', 'apt-get install libopenblas0-pthread'],
    ['MKL', 'avx2', 'cannot be held to avx2'],
  ])('with the BLAS %s and %s forced have no float32', (blas, forced, advice) => {
    expect(blasAdvice(blas, forced)).toContain(advice)
  })

  test.each([
    ['OpenBLAS', 'avx2'],
    ['OpenBLAS', undefined],
    ['MKL', undefined],
  ])('with the BLAS %s and %s forced have float32', (blas, forced) => {
    expect(blasAdvice(blas, forced)).toBeUndefined()
  })
})

test('the peak is that of the vectors of the set', () => {
  expect(vectorBits('avx2')).toBe(256)
  expect(vectorBits('avx512')).toBe(512)
  expect(vectorBits('amx')).toBe(512)
})

describe('showProgress', () => {
  const shown = (isTTY: boolean, text: string) => {
    const written: string[] = []
    showProgress(text, { isTTY, columns: 10, write: (part) => written.push(part) })
    return written
  }

  test('replaces one line that is narrower than the terminal', () => {
    expect(shown(true, 'round 1 of 5: ours')).toEqual(['\r\u001b[2Kround 1 o'])
  })

  test('writes nothing where there is no terminal', () => {
    expect(shown(false, 'round 1')).toEqual([])
  })
})
