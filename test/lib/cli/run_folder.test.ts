// The record of a run: positions survive any crash between record and checkpoint; metrics continue from the checkpoint.
import { constants } from 'node:buffer'
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import {
  appendMetrics,
  checkNoRun,
  emptyMetrics,
  makeShared,
  positionAt,
  type RunRecord,
  readRunRecord,
  recordPosition,
  resumedRecord,
  trimMetrics,
  writeRunRecord,
} from '../../../lib/cli/run_folder.js'
import { onAll, thrown } from './fake_ranks.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mor-run-'))
})

const settings = {
  dataset: 'dataset',
  length: 8,
  batchSize: 2,
  gradientAccumulation: 1,
  steps: 10,
  seed: 0,
  evalEvery: 5,
  evalBatches: 2,
  saveEvery: 5,
}
const data = (index: number) => ({ tokens: 100, length: 8, seed: 0, epoch: 0, index })

describe('run.json', () => {
  it('knows the place of the checkpoint before until the next one is surely saved', async () => {
    let record: RunRecord = { settings, positions: [] }
    for (const step of [2, 4, 6]) record = await recordPosition(folder, record, step, data(step * 2))
    const read = await readRunRecord(folder)
    expect(read).toEqual({
      settings,
      positions: [
        { step: 4, data: data(8) },
        { step: 6, data: data(12) },
      ],
    })
    expect(positionAt(read, 4)).toEqual(data(8))
    expect(positionAt(read, 6)).toEqual(data(12))
    expect(() => positionAt(read, 2)).toThrow(
      expect.objectContaining({
        code: 'CHECKPOINT_INVALID',
        message: expect.stringContaining('step 2, but run.json knows the place in the data for 4 and 6'),
      }),
    )
  })

  it('knows the place of the checkpoint that a run was resumed from, whatever saves failed after it', async () => {
    let record: RunRecord = { settings, positions: [] }
    for (const step of [2, 4, 5]) record = await recordPosition(folder, record, step, data(step * 2))
    for (const step of [5, 6]) {
      record = await recordPosition(folder, resumedRecord(await readRunRecord(folder), 4), step, data(step * 3))
      expect(positionAt(await readRunRecord(folder), 4)).toEqual(data(8))
      expect(positionAt(await readRunRecord(folder), step)).toEqual(data(step * 3))
    }
  })

  it('forgets a place that a resumed run reaches again', async () => {
    const record: RunRecord = {
      settings,
      positions: [
        { step: 4, data: data(8) },
        { step: 6, data: data(12) },
      ],
    }
    expect((await recordPosition(folder, record, 6, data(13))).positions).toEqual([
      { step: 4, data: data(8) },
      { step: 6, data: data(13) },
    ])
  })

  it('that is missing or damaged is refused; one that is there is not overwritten', async () => {
    await expect(readRunRecord(folder)).rejects.toMatchObject({
      code: 'CHECKPOINT_MISSING',
      message: expect.stringContaining(folder),
    })
    await checkNoRun(folder)
    writeFileSync(join(folder, 'run.json'), '{"settings":')
    await expect(readRunRecord(folder)).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID' })
    writeFileSync(join(folder, 'run.json'), '{}')
    await expect(readRunRecord(folder)).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringContaining('no settings'),
    })
    for (const damaged of [
      { settings: null, positions: [] },
      { settings: [], positions: [] },
      { settings, positions: [null] },
    ]) {
      writeFileSync(join(folder, 'run.json'), JSON.stringify(damaged))
      await expect(readRunRecord(folder)).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID' })
    }
    await expect(checkNoRun(folder)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('--resume'),
    })
    await writeRunRecord(folder, { settings, positions: [] })
    expect(await readRunRecord(folder)).toEqual({ settings, positions: [] })
    writeFileSync(join(folder, 'run.json'), `\ufeff${readFileSync(join(folder, 'run.json'), 'utf8')}`)
    expect(await readRunRecord(folder)).toEqual({ settings, positions: [] })
  })
})

describe('the folder of several ranks', () => {
  it('is made, and has nothing in it that only told whether it is shared', async () => {
    const run = join(folder, 'runs', 'first')
    await onAll(3, (ranks) => makeShared(run, ranks))
    await onAll(3, (ranks) => makeShared(run, ranks))
    expect(readdirSync(run)).toEqual([])
  })

  it('that one of them does not share is an error of all, with the same path on all machines, too', async () => {
    const own = [join(folder, '0'), join(folder, '1')]
    for (const path of own) mkdirSync(path)
    const errors = await onAll(2, (ranks, rank) => thrown(makeShared(own[rank]!, ranks)))
    for (const error of errors) expect(error).toMatchObject({ code: 'IO_ERROR' })
    const messages = errors.map((error) => (error as Error).message)
    expect(messages[1]).toMatch(
      /1\/\.shared-\w+ is not there, though rank 0 has just made it: give all ranks the same folder as --output/,
    )
    expect(messages[0]).toBe(`rank 1: ${messages[1]}`)
    for (const path of own) expect(readdirSync(path)).toEqual([])
  })

  it('that cannot be made is an error of all', async () => {
    writeFileSync(join(folder, 'file'), '')
    const errors = await onAll(2, (ranks) => thrown(makeShared(join(folder, 'file', 'run'), ranks)))
    for (const error of errors) expect(error).toMatchObject({ code: 'IO_ERROR' })
  })
})

describe('metrics.jsonl', () => {
  const place = (index: number) => ({ tokens: 100, length: 4, seed: 0, epoch: 0, index })

  it('loses what lies after the checkpoint and a line cut short', async () => {
    await appendMetrics(folder, { type: 'refused', step: 0, message: 'of a run that was given up' })
    await emptyMetrics(folder)
    for (const step of [1, 2, 3]) await appendMetrics(folder, { type: 'step', step })
    writeFileSync(join(folder, 'metrics.jsonl'), `${readFileSync(join(folder, 'metrics.jsonl'), 'utf8')}{"type":"st`)
    await trimMetrics(folder, 2, place(0))
    await appendMetrics(folder, { type: 'step', step: 3, again: true })
    expect(readFileSync(join(folder, 'metrics.jsonl'), 'utf8')).toBe(
      '{"type":"step","step":1}\n{"type":"step","step":2}\n{"type":"step","step":3,"again":true}\n',
    )
  })

  it('keeps of the steps refused after the last one those before the place in the data', async () => {
    const refused = (index: number) => ({ type: 'refused', step: 1, message: 'NaN', data: place(index) })
    const kept = async (index: number) => {
      writeFileSync(join(folder, 'metrics.jsonl'), '')
      for (const record of [{ type: 'step', step: 1 }, refused(6), refused(9)]) await appendMetrics(folder, record)
      await trimMetrics(folder, 1, place(index))
      return readFileSync(join(folder, 'metrics.jsonl'), 'utf8').match(/"index":\d/g)
    }
    expect(await kept(3)).toBeNull()
    expect(await kept(6)).toEqual(['"index":6'])
    expect(await kept(9)).toEqual(['"index":6', '"index":9'])
    await trimMetrics(folder, 2, place(12))
    expect(readFileSync(join(folder, 'metrics.jsonl'), 'utf8').match(/refused/g)!.length).toBe(2)
  })

  it('may be larger than the longest string', async () => {
    const path = join(folder, 'metrics.jsonl')
    const line = '{"type":"step","step":1}\n'
    // Holes in a file are zeros, and take no room on the disk.
    const half = constants.MAX_STRING_LENGTH / 2 + 1
    writeFileSync(path, '')
    for (const end of [half, 2 * half]) {
      truncateSync(path, end)
      appendFileSync(path, '\n')
    }
    appendFileSync(path, line)
    await trimMetrics(folder, 1, place(0))
    expect(readFileSync(path, 'utf8')).toBe(line)
  }, 60_000)

  it('tells whether the last step that is kept was evaluated', async () => {
    for (const step of [1, 2]) await appendMetrics(folder, { type: 'step', step })
    expect(await trimMetrics(folder, 2, place(0))).toBe(false)
    await appendMetrics(folder, { type: 'evaluation', step: 2 })
    expect(await trimMetrics(folder, 2, place(0))).toBe(true)
    expect(await trimMetrics(folder, 1, place(0))).toBe(false)
  })

  it('stays as it was where it cannot be written anew', async () => {
    await appendMetrics(folder, { type: 'step', step: 1 })
    mkdirSync(join(folder, 'metrics.jsonl.partial', 'in the way'), { recursive: true })
    await expect(trimMetrics(folder, 0, place(0))).rejects.toMatchObject({ code: 'IO_ERROR' })
    expect(readFileSync(join(folder, 'metrics.jsonl'), 'utf8')).toBe('{"type":"step","step":1}\n')
  })

  it('stays as it was where it cannot be read', async () => {
    // A link to itself can be replaced, but not read.
    symlinkSync('metrics.jsonl', join(folder, 'metrics.jsonl'))
    await expect(trimMetrics(folder, 0, place(0))).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringContaining('metrics.jsonl'),
    })
    expect(readlinkSync(join(folder, 'metrics.jsonl'))).toBe('metrics.jsonl')
  })

  it('that cannot be written is an IO_ERROR', async () => {
    await expect(appendMetrics(join(folder, 'nowhere'), {})).rejects.toMatchObject({ code: 'IO_ERROR' })
  })
})
