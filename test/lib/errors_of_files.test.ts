// Errors of files that are open, which Node.js gives no path: messages name the file. /dev/full is a disk without room.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { findTemplate } from '../../lib/chat/template_files.js'
import { appendMetrics, readRunRecord, trimMetrics, writeRunRecord } from '../../lib/cli/run_folder.js'
import { makeOutput } from '../../lib/convert/new_output.js'
import { readBytes } from '../../lib/dataset/bytes.js'
import { readDatasetInfo, writeDatasetInfo } from '../../lib/dataset/format.js'
import { writeUnfinished } from '../../lib/dataset/unfinished.js'
import { ShardWriter } from '../../lib/dataset/writer.js'
import { toMorError } from '../../lib/errors.js'
import { readTasks } from '../../lib/evaluation/tasks.js'
import { readGguf } from '../../lib/gguf/reader.js'
import { readJsonFile } from '../../lib/json_file.js'
import { readMetrics } from '../../lib/report/metrics.js'
import { readSafetensorsFile } from '../../lib/safetensors.js'
import { tokenizerFiles, writeTokenizerFiles } from '../../lib/tokenizer/files.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mor-files-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

async function writeShard(split: string): Promise<void> {
  const writer = new ShardWriter(split, 'train', 'uint16', 8)
  await writer.append(Int32Array.of(1, 2, 3))
  await writer.close()
}

async function readAll(items: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of items);
}

it.each<[string, (file: string) => Promise<unknown>, string?]>([
  ['metrics.jsonl', () => appendMetrics(folder, { type: 'step' })],
  [
    'metrics.jsonl',
    () => trimMetrics(folder, 3, { tokens: 9, length: 1, seed: 0, epoch: 0, index: 0 }),
    'metrics.jsonl.partial',
  ],
  ['run.json', () => writeRunRecord(folder, { settings: {} as never, positions: [] }), 'run.json.partial'],
  ['dataset.json', () => writeDatasetInfo(folder, {} as never)],
  ['unfinished.json', () => writeUnfinished(folder, {} as never), 'unfinished.json.new'],
  ['train-00000.bin', () => writeShard(folder)],
  ['tokenizer.json', () => writeTokenizerFiles(tokenizerFiles('{}'), folder), 'tokenizer.json.partial'],
])('says of which file a disk is too full: %s', async (name, write, written = name) => {
  writeFileSync(join(folder, 'metrics.jsonl'), '{"type":"step","step":1}\n')
  rmSync(join(folder, written), { force: true })
  symlinkSync('/dev/full', join(folder, written))
  const error = toMorError(await write(name).catch((reason: unknown) => reason))
  expect(error.code).toBe('IO_ERROR')
  const path = join(folder, name)
  expect(error.message).toBe(
    `ENOSPC: no space left on device, write '${path}': free some space on that disk, then try again`,
  )
})

it('says of which output a disk is too full', async () => {
  const path = join(folder, 'page.html')
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' })
  const error = toMorError(
    await makeOutput(path, 'folder', () => Promise.reject(full)).catch((reason: unknown) => reason),
  )
  expect(error.message).toContain(`write '${path}': free some space`)
})

it.each<[string, (path: string) => Promise<unknown>]>([
  ['config.json', readJsonFile],
  ['run.json', () => readRunRecord(folder)],
  ['metrics.jsonl', (path) => readMetrics(path, new AbortController().signal)],
  ['dataset.json', () => readDatasetInfo(folder)],
  ['text.txt', (path) => readAll(readBytes(path, null, undefined))],
  ['text.txt.gz', (path) => readAll(readBytes(path, 'gzip', undefined))],
  ['tasks.json', readTasks],
  ['chat_template.jinja', () => findTemplate(folder)],
  ['model.safetensors', readSafetensorsFile],
  ['model.gguf', readGguf],
])('names a folder in the place of %s', async (name, read) => {
  const path = join(folder, name)
  mkdirSync(path)
  const error = toMorError(await read(path).catch((reason: unknown) => reason))
  expect(error).toMatchObject({ code: 'IO_ERROR', message: `${path} is a folder (EISDIR): a file belongs there` })
})
