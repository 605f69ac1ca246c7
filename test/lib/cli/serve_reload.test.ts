// `mor serve` in this process, and the signal that lets it load its checkpoint again.
import { expect, it } from 'vitest'
import { Output } from '../../../lib/cli/output.js'
import { serve } from '../../../lib/cli/serve.js'
import { saveTinyModel } from '../server/tiny_model.js'
import { RecordingStream } from './recording_stream.js'

it('SIGUSR2 while the first weights are loaded is followed when they are served', { timeout: 60_000 }, async () => {
  const { folder, remove } = await saveTinyModel()
  const stream = new RecordingStream(false)
  const controller = new AbortController()
  const limits = { maxBatchSize: 4, kvCacheBytes: 0, drainTimeout: 1, device: 'cpu', threads: 1 } as const
  const options = { ...limits, model: folder, host: '127.0.0.1', port: 0, logLevel: 'silent' }
  const served = serve(options, new Output(stream), controller.signal)
  expect(process.listenerCount('SIGUSR2')).toBe(1)
  process.emit('SIGUSR2')
  const types = () => stream.records.map(({ type }) => type)
  await expect.poll(types, { timeout: 20_000 }).toEqual(['listening', 'reloading', 'reloaded'])
  controller.abort()
  await served
  expect(process.listenerCount('SIGUSR2')).toBe(0)
  expect(types().slice(3)).toEqual(['draining', 'end'])
  await remove()
})
