// Tests of programs whose cases fail, hang or end the process, by shell scripts that do so.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { type CaseLine, type CaseProgram, Deadline, runCases } from '../../bench/lib/cases.js'
import { runLines } from '../../bench/lib/process_lines.js'
import { temporaryFolder } from '../../bench/lib/temporary_folder.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 120_000 })

/** Whether a process is there and has not ended; one that has ended may wait for its parent. */
function runs(pid: number): boolean {
  const file = `/proc/${pid}/stat`
  return existsSync(file) && !/\) [ZX] /.test(readFileSync(file, 'utf8'))
}

/** A process that was killed ends a moment later, when the system gets to it. */
async function expectEnd(pid: number) {
  await expect.poll(() => runs(pid), { timeout: 60_000 }).toBe(false)
}

function shell(script: string, ...words: string[]): string[] {
  return ['sh', '-c', script, 'sh', ...words]
}

/** The names of cases that pass, and why the others failed. */
async function outcome(program: Omit<CaseProgram, 'name' | 'read'>, seconds = 100) {
  const passed: string[] = []
  const failures: Record<string, string> = {}
  const log: string[] = []
  const read = (line: string) => (line.startsWith('{') ? (JSON.parse(line) as CaseLine) : undefined)
  await runCases({ name: 'the program', read, ...program }, new Deadline(seconds), {
    pass: (name) => passed.push(name),
    fail: (name, why) => {
      failures[name] = why
    },
    log: (line) => log.push(line),
  })
  return { passed, failures, log }
}

const faults = `
  folder=$1 count=0 status=0
  for name in first throws second hangs third killed fourth lost fifth half sixth silent last; do
    count=$((count + 1))
    if [ $count -le $2 ]; then continue; fi
    echo "{\\"begin\\":\\"$name\\"}"
    case $name in
      throws) echo '{"end":"throws","error":"no kernel for this"}'; status=1; continue;;
      hangs) sleep 1000 & echo $! > $folder/pid; wait;;
      killed) echo about to die >&2; kill -s SEGV $$;;
      lost) echo '{"end":"lost","error":"the GPU is gone","lost":true}'; sleep 1000;;
      half) printf '{"figure":"x"'; exit 3;;
      silent) echo one; echo two; echo '{"end":"silent","error":""}'; status=1; continue;;
    esac
    echo "{\\"end\\":\\"$name\\"}"
  done
  exit $status`

test('a case that throws, hangs, is killed, or takes the device along costs itself alone', async () => {
  using folder = temporaryFolder('mor-cases-')
  const { passed, failures, log } = await outcome({
    seconds: 5,
    words: (done) => shell(faults, folder.path, `${done.length}`),
  })
  expect(passed).toEqual(['first', 'second', 'third', 'fourth', 'fifth', 'sixth', 'last'])
  expect(failures).toEqual({
    throws: 'no kernel for this',
    hangs: 'sh said nothing for 5 s',
    killed: 'sh was ended by SIGSEGV\nabout to die',
    lost: 'the GPU is gone',
    half: 'sh ended with exit code 3',
    silent: 'one\ntwo',
  })
  expect(log).toContain('about to die')
  await expectEnd(Number(readFileSync(join(folder.path, 'pid'), 'utf8')))
})

test('a program that fails outside of its cases is one failure', async () => {
  const words = () => shell('echo no such library >&2; exit 5')
  expect(await outcome({ seconds: 60, words })).toMatchObject({
    passed: [],
    failures: { 'the program': 'sh ended with exit code 5\nno such library' },
  })
  const missing = await outcome({ seconds: 60, words: () => ['/no/such/program'] })
  expect(missing.failures['the program']).toMatch(/^program could not be started/)
  const afterwards = `echo '{"begin":"a"}'; echo '{"end":"a"}'; echo a leak; exit 99`
  const leak = await outcome({ seconds: 60, words: (done) => (done.length > 0 ? null : shell(afterwards)) })
  expect(leak).toMatchObject({ passed: ['a'], failures: { 'the program': 'sh ended with exit code 99\na leak' } })
})

test('a part that takes too long is ended, and what was not run is said', async () => {
  const script = `echo '{"begin":"slow"}'; while true; do echo working; sleep 0.2; done`
  const { passed, failures } = await outcome({ seconds: 60, words: () => shell(script) }, 4)
  expect(passed).toEqual([])
  expect(failures.slow).toMatch(/^sh took longer than 4 s/)
  expect(failures['the program']).toBe('the 4 s of this part were over: the cases after slow were not run')
})

test('an error in what reads the lines fails the case and not the part', async () => {
  const script = `echo '{"begin":"a"}'; echo '{"broken'; echo '{"end":"a"}'; echo '{"begin":"b"}'; echo '{"end":"b"}'`
  const { passed, failures } = await outcome({ seconds: 60, words: () => shell(script) })
  expect(passed).toEqual(['a', 'b'])
  expect(failures.a).toContain('{"broken')
})

test('a program is ended when it is no longer wanted, with what it started', async () => {
  using folder = temporaryFolder('mor-cases-')
  const stop = new AbortController()
  const script = 'sleep 1000 & echo $! > $1/pid; echo started; wait'
  const ending = await runLines(shell(script, folder.path), {
    seconds: 100,
    silence: 100,
    signal: stop.signal,
    onLine() {
      stop.abort()
      return undefined
    },
  })
  expect(ending).toEqual({ ok: false, killed: true, why: 'sh was ended' })
  await expectEnd(Number(readFileSync(join(folder.path, 'pid'), 'utf8')))
})

test('a program ends although nobody is there to end it', async () => {
  let parent = ''
  const ending = await runLines(shell("tr '\\0' ' ' < /proc/$PPID/cmdline"), {
    seconds: 100,
    silence: 100,
    onLine(line) {
      parent = line
      return undefined
    },
  })
  expect(ending.ok).toBe(true)
  expect(parent).toMatch(/^timeout --signal KILL 105 sh /)
})
