// The real addon in processes and threads of its own: ends in the middle of work, many threads, repeated use, limits of the
// system. The addon must have been built.
import { Worker } from 'node:worker_threads'
import { expect, it, vi } from 'vitest'
import { programSource, runProgram } from './addon_support.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const quietEnd = { code: 0, signal: null, output: '' }

function workerSource(body: string): string {
  return `const { parentPort } = require('node:worker_threads')\n${programSource(body)}`
}

it('does not keep an idle process alive', async () => {
  expect(await runProgram(programSource('await tiny(false)'))).toMatchObject(quietEnd)
})

it('keeps the process alive while a step is under way', async () => {
  const body = `const { step } = await slowTrainer(); step().then((s) => process.stdout.write('step ' + s.step))`
  expect(await runProgram(programSource(body))).toMatchObject({ ...quietEnd, output: 'step 1' })
})

it('keeps the process alive while a generation is under way', async () => {
  const body = `
    const { model } = await tiny(false)
    const engine = addon.createEngine(model, engineOptions, (events) => {
      for (let i = 0; i < events.length; i += 5) process.stdout.write({ 0: '.', 2: 'length' }[events[i + 1]] ?? '')
    })
    generate(engine, 3)`
  expect(await runProgram(programSource(body))).toMatchObject({ ...quietEnd, output: '...length' })
})

it.each([
  ['process.exit', 'process.exit(7)', 7],
  ['an uncaught exception', "throw new Error('on purpose')", 1],
])('ends by %s in mid-step', async (_, ending, code) => {
  for (const delay of [0, 3, 20]) {
    const body = `
      const { step } = await slowTrainer()
      const { signal } = new AbortController()
      step(signal).catch(() => undefined)
      step(signal).catch(() => undefined)
      setTimeout(() => { ${ending} }, ${delay})`
    expect(await runProgram(programSource(body))).toMatchObject({ code, signal: null })
  }
})

it('reports an exception of the event callback as uncaught, and goes on', async () => {
  const body = `
    process.on('uncaughtException', (error) => process.stdout.write(error.message))
    const { model } = await tiny(false)
    const engine = addon.createEngine(model, engineOptions, () => { throw new Error('mine;') })
    generate(engine, 1)`
  const result = await runProgram(programSource(body))
  expect(result).toMatchObject({ code: 0, signal: null, output: expect.stringMatching(/^(mine;)+$/) })
})

it('survives an abort after the thread of the call has ended', async () => {
  const body = `
    const { mkdtempSync, rmSync } = require('node:fs')
    const folder = mkdtempSync(require('node:os').tmpdir() + '/mor-ended-')
    process.on('exit', () => rmSync(folder, { recursive: true }))
    const { model } = await tiny(false)
    const controller = new AbortController()
    let writing
    const engine = addon.createEngine(model, engineOptions, () => {
      if (writing !== undefined) return
      const file = { name: 'file', head: new Uint8Array(1), tensors: [] }
      writing = addon.writeDerivedFiles(folder, [file], controller.signal)
      writing.then(() => 'written', (error) => error.code).then((end) => process.stdout.write(end))
      // The file is written and its thread has ended, and the event loop has not heard of it.
      for (const until = Date.now() + 500; Date.now() < until; );
      queueMicrotask(() => controller.abort())
    })
    generate(engine, 1)`
  // The C library fills memory that is freed with these bytes, so that its use is noticed.
  const result = await runProgram(programSource(body), {
    limit: 'export MALLOC_PERTURB_=165 GLIBC_TUNABLES=glibc.malloc.tcache_count=0',
  })
  expect(result).toMatchObject({ ...quietEnd, output: 'ABORTED' })
})

it('survives terminate at any moment, in several threads at once', async () => {
  const body = `
    const { step } = await slowTrainer()
    const { signal } = new AbortController()
    parentPort.postMessage('ready')
    for (;;) await Promise.all([step(signal), step(signal)])`
  for (const delay of [0, 1, 10, 60]) {
    const workers = [0, 1].map(() => new Worker(workerSource(body), { eval: true }))
    await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))))
    await new Promise((resolve) => setTimeout(resolve, delay))
    await Promise.all(workers.map((worker) => worker.terminate()))
  }
})

it('computes the same in several threads at once', async () => {
  const loss = () =>
    new Promise<number>((resolve, reject) => {
      const source = workerSource('parentPort.postMessage((await tiny(true)).step.loss)')
      const worker = new Worker(source, { eval: true })
      worker.once('message', resolve)
      worker.once('error', reject)
    })
  const losses = await Promise.all([loss(), loss(), loss()])
  expect(losses[0]).toBeGreaterThan(0)
  expect(new Set(losses).size).toBe(1)
})

it('survives when only threads that have ended loaded it', async () => {
  const source = workerSource(`
    const { step } = await slowTrainer()
    parentPort.postMessage('ready')
    await step()`)
  const program = `
    const { Worker } = require('node:worker_threads')
    ;(async () => {
      for (let i = 0; i < 3; i++) {
        const worker = new Worker(${JSON.stringify(source)}, { eval: true })
        await new Promise((resolve) => worker.once('message', resolve))
        await worker.terminate()
      }
    })()`
  expect(await runProgram(program)).toMatchObject(quietEnd)
})

it('keeps no handle of a call that has ended, whether it succeeds or is refused', async () => {
  const body = `
    const { getHeapStatistics } = require('node:v8')
    const { model } = await tiny(false)
    const handles = () => (global.gc(), getHeapStatistics().used_global_handles_size)
    const calls = async (n) => {
      for (let i = 0; i < n; i++) {
        await model.forward(Int32Array.of(1), 1, 1, { routing: 'threshold', routerThreshold: 0.5, maxRecursions: 0 })
        await model.forward(Int32Array.of(1), 1, 1, { routing: 'no such rule' }).catch(() => {})
        await model.init(1, AbortSignal.abort()).catch(() => {})
      }
    }
    await calls(100)
    const before = handles()
    await calls(2000)
    process.stdout.write(String(handles() - before))`
  const { code, output } = await runProgram(programSource(body), { nodeOptions: ['--expose-gc'] })
  expect(code).toBe(0)
  expect(Number(output)).toBeLessThan(2000 * 8) // a handle takes some 24 bytes
})

it('does not grow over 100 cycles of load, use and close', async () => {
  const body = `
    const { readFileSync } = require('node:fs')
    const threads = () => Number(/Threads:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1])
    async function cycles(n, close) {
      for (let i = 0; i < n; i++) {
        await tiny(close)
        if (!close) gc()
      }
      for (let i = 0; i < 3; i++) {
        gc()
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
    }
    await cycles(30, true)
    await cycles(30, false)
    const before = [process.memoryUsage().rss, threads()]
    await cycles(100, true)
    await cycles(100, false)
    const after = [process.memoryUsage().rss, threads()]
    process.stdout.write(JSON.stringify({ megabytes: (after[0] - before[0]) / 2 ** 20, threads: after[1] - before[1] }))`
  const result = await runProgram(programSource(body), { nodeOptions: ['--expose-gc'] })
  expect(result).toMatchObject({ code: 0, signal: null })
  const { megabytes, threads } = JSON.parse(result.output)
  expect(megabytes).toBeLessThan(20)
  expect(threads).toBeLessThanOrEqual(0)
})

it('lets a model have another trainer once the first one is collected', async () => {
  const body = `
    const model = await addon.createModel(tinyConfig, { device: 'cpu', dtype: 'float32', threads: 2, nice: 5 })
    const make = () => addon.createTrainer(model, trainerOptions)
    await make().evaluate(new Int32Array(17), null, Int32Array.of(1, 16), 'threshold')
    for (let i = 0; i < 100; i++) {
      gc()
      await new Promise((resolve) => setTimeout(resolve, 10))
      try {
        process.stdout.write('steps ' + make().stepsDone())
        break
      } catch (error) {
        if (error.code !== 'INVALID_ARGUMENT') throw error
      }
    }`
  expect(await runProgram(programSource(body), { nodeOptions: ['--expose-gc'] })).toMatchObject({
    ...quietEnd,
    output: 'steps 0',
  })
})

it('says in the first call that there is no memory for a trainer, and lets another be made', async () => {
  const body = `
    const { execFileSync } = require('node:child_process'), { readFileSync } = require('node:fs')
    const wide = { ...tinyConfig, vocabSize: 2 ** 17, hiddenSize: 512 }
    const model = await addon.createModel(wide, { device: 'cpu', dtype: 'bfloat16', threads: 2, nice: 5 })
    const kibibytes = Number(/VmSize:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1])
    execFileSync('prlimit', ['--pid', String(process.pid), '--as=' + (kibibytes * 1024 + 2 ** 29)])
    for (let i = 0; i < 2; i++) {
      const trainer = addon.createTrainer(model, trainerOptions)
      await trainer.evaluate(new Int32Array(17), null, Int32Array.of(1, 16), 'threshold').catch(({ code, message }) => {
        process.stdout.write(code + ' ' + message + '\\n')
      })
    }`
  const { code, output } = await runProgram(programSource(body))
  expect(code).toBe(0)
  expect(output).toMatch(
    /^(OUT_OF_MEMORY a trainer takes \d+ bytes of master weights, .* \(less with a smaller model\)\.\n){2}$/,
  )
})

it('turns a file size limit into an error, and removes the partial file', async () => {
  const body = `
    const fs = require('node:fs'), os = require('node:os'), path = require('node:path')
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mor-limit-'))
    const { model } = await slowTrainer()
    fs.writeFileSync(path.join(folder, 'weights'), 'before')
    const file = { name: 'weights', head: [new Uint8Array(64)], tensors: model.parameters() }
    await model.save(folder, [file]).catch(({ code, message }) => {
      process.stdout.write(code + ' ' + message + ' ' + fs.readdirSync(folder) + ' ' + fs.readFileSync(path.join(folder, 'weights')))
    })
    fs.rmSync(folder, { recursive: true })`
  const result = await runProgram(programSource(body), { limit: 'ulimit -f 64' })
  expect(result).toMatchObject({ code: 0, signal: null })
  expect(result.output).toMatch(/^IO_ERROR cannot write .* after \d+ bytes: File too large weights before$/)
})
