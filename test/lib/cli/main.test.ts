// The command as a process: exit codes, what goes to which stream, help, mistakes.
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { mor } from './process.js'

describe('mor', { timeout: 30000 }, () => {
  it('inspect ends with 0 and one line of JSON', async () => {
    const { code, stdout, stderr } = await mor('inspect', '135M-mor-2', '--dtype', 'float32')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(JSON.parse(stdout)).toMatchObject({ kind: 'mor', kvBytesPerToken: { dtype: 'float32' } })
  })

  it.each([
    [['train', '--help'], 0, /--gradient-accumulation/],
    [['--help'], 0, /inspect/],
    [['--version'], 0, /^\d+\.\d+\.\d+\n$/],
  ])('%j helps', async (args, expected, text) => {
    const { code, stdout } = await mor(...args)
    expect(code).toBe(expected)
    expect(stdout).toMatch(text)
  })

  it.each([
    [['inspect', '136M'], /^error \[INVALID_ARGUMENT\] 136M is neither.*did you mean "135M"/],
    [['inspekt'], /unknown command 'inspekt'\n\(Did you mean inspect\?\)/],
    [
      ['train', '--output', 'x', '--steps', '1.5'],
      /'--steps <count>' argument '1.5' is invalid. It must be an integer of at least 1/,
    ],
    [['train', '--output', 'x', '--validation-fraction', '0.9'], /It must be a number from 0 to 0.5/],
    [['train', '--output', 'x', '--dtype', 'int8'], /Allowed choices are bfloat16, float32/],
    [['train'], /required option '--output <folder>' not specified/],
    [['generate'], /missing required argument 'checkpoint'/],
    [['generate', '/nowhere'], /^error \[CHECKPOINT_MISSING\] there is no checkpoint at \/nowhere/],
  ])('%j ends with 1 and says why, without a stack', async (args, text) => {
    const { code, stdout, stderr } = await mor(...args)
    expect(code).toBe(1)
    expect(stdout).toBe('')
    expect(stderr).toMatch(text)
    expect(stderr).not.toContain('    at ')
  })

  it('--verbose shows the stack, before and after the command', async () => {
    const config = join(mkdtempSync(join(tmpdir(), 'mor-main-')), 'model.json')
    writeFileSync(config, '{"hidden_size": 0}')
    for (const args of [
      ['--verbose', 'inspect', config],
      ['inspect', config, '--verbose'],
    ]) {
      const { code, stderr } = await mor(...args)
      expect(code).toBe(1)
      expect(stderr).toMatch(/\[INVALID_CONFIG\][\s\S]*\n {4}at /)
    }
  })
})
