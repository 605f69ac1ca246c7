// Holds a folder for one process, so that no other one writes into it at the same time.
import { createHash } from 'node:crypto'
import { readFile, realpath, stat } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { basename, dirname, resolve } from 'node:path'
import { MorError } from './errors.js'

/** What a process that holds a folder tells the others. */
interface Holder {
  pid: number
  /** In ISO 8601. */
  since: string
}

/** A process that holds a folder and says nothing for so long is stopped, or has too much to do. */
const ANSWER_MS = 2000

/** All that there is room for: Node.js 20 fills a shorter name with zeros, and Node.js 22 does not. */
const NAME_LENGTH = 107

/**
 * Holds `folder`, which need not be there yet, until it is disposed of, or the process ends in whatever way: nothing is left that
 * another process could take for a sign of life. What is held is the name of an abstract socket of Linux, made of the folder's name and the
 * numbers of the device and inode of the folder above it. Processes on other machines, and in containers that have a network of their own,
 * do not see it and are not kept out.
 * @returns null where the folder above is missing
 * @throws {MorError} INVALID_ARGUMENT where another process holds it
 */
export async function holdFolder(folder: string): Promise<AsyncDisposable | null> {
  const name = await nameOf(folder)
  if (name === null) return null
  const server = await listen(name, { pid: process.pid, since: new Date().toISOString() })
  if (server === null && (await isHeld(name))) {
    const holder = await ask(name)
    const other = 'choose another folder'
    throw new MorError(
      'INVALID_ARGUMENT',
      holder === null
        ? `another process writes into ${folder} and does not answer, as one that is stopped: let it go on or end it, or ${other}`
        : `process ${holder.pid} has been writing into ${folder} since ${holder.since}: wait for its end, stop it (kill ${holder.pid}), or ${other}`,
    )
  }
  return {
    async [Symbol.asyncDispose]() {
      server?.close()
    },
  }
}

/** The same by whatever path. */
async function nameOf(folder: string): Promise<string | null> {
  const path = await realpath(folder).catch(() => resolve(folder))
  const above = await stat(dirname(path), { bigint: true }).catch(() => null)
  if (above === null) return null
  const digest = createHash('sha256')
    .update(`${above.dev} ${above.ino} ${basename(path)}`)
    .digest('hex')
  return `mor-folder-${digest}`.padEnd(NAME_LENGTH, '-')
}

/** Null where the name is taken, or where this version of Node.js cannot take it (those before 20.8 cannot). */
function listen(name: string, holder: Holder): Promise<Server | null> {
  return new Promise((resolve) => {
    const server = createServer((socket) => socket.unref().on('error', ignore).end(JSON.stringify(holder)))
    server.unref().on('error', () => resolve(null))
    server.listen(`\0${name}`, () => resolve(server))
  })
}

/** Whether any process has the name, by the kernel's list: early versions of Node.js 20 take every name for the same. */
async function isHeld(name: string): Promise<boolean> {
  const sockets = await readFile('/proc/net/unix', 'utf8').catch(() => '')
  return sockets.split('\n').some((line) => line.endsWith(` @${name}`))
}

/** Null where there is no answer. */
function ask(name: string): Promise<Holder | null> {
  return new Promise((resolve) => {
    let text = ''
    const socket = connect({ path: `\0${name}` })
    socket.setTimeout(ANSWER_MS, () => socket.destroy())
    socket.setEncoding('utf8').on('data', (part) => {
      text += part
    })
    socket.on('error', ignore)
    socket.on('close', () => {
      try {
        resolve(JSON.parse(text))
      } catch {
        resolve(null)
      }
    })
  })
}

function ignore(): void {}
