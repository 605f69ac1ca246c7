// Whether a file is an addon that this process can load. This must be known before it is tried, because the system's
// loader does not check it: a file that lacks its end ends the process with a bus error.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { MorError } from './errors.js'

/** `e_machine` of an ELF file, by Node's name of the architecture. */
const machines: Record<string, number> = {
  ia32: 3,
  ppc64: 21,
  arm: 40,
  x64: 62,
  arm64: 183,
  riscv64: 243,
  loong64: 258,
}

/** How binaries of other systems begin. */
const foreign: [magic: string, system: string][] = [
  ['4d5a', 'Windows'],
  ['cffaedfe', 'macOS'],
  ['cafebabe', 'macOS'],
]

const sharedObject = 3
const headerBytes = 64
const sectionBytes = 64
const programBytes = 56

/**
 * Checks the headers of the shared object at `path`.
 * @param mend the sentence that says what to do
 * @throws {MorError} NATIVE_FOREIGN if it was built for another system or processor, NATIVE_DAMAGED if it is no shared
 * object or if a part that it names is missing, IO_ERROR if it cannot be read.
 */
export function checkNativeFile(path: string, mend: string): void {
  const refuse = (code: 'NATIVE_DAMAGED' | 'NATIVE_FOREIGN', what: string) =>
    new MorError(code, `the native binary ${path} is there but does not load: ${what}. ${mend}`)
  const { bytes, size } = readHead(path)
  const magic = bytes.toString('hex', 0, 4)
  const system = foreign.find(([begin]) => magic.startsWith(begin))?.[1]
  if (system !== undefined)
    throw refuse('NATIVE_FOREIGN', `it was built for ${system}, and this is ${process.platform}`)
  if (magic !== '7f454c46' || size < headerBytes)
    throw refuse(
      'NATIVE_DAMAGED',
      `it has ${size} bytes and begins with "${magic}"; a shared object begins with "7f454c46"`,
    )
  const machine = bytes.readUInt16LE(18)
  const wanted = machines[process.arch]
  if (bytes[4] !== 2 || (wanted !== undefined && machine !== wanted)) {
    const arch = Object.keys(machines).find((name) => machines[name] === machine) ?? `machine ${machine}`
    throw refuse('NATIVE_FOREIGN', `it was built for ${arch}, and this is ${process.arch}`)
  }
  const read64 = (at: number) => Number(bytes.readBigUInt64LE(at))
  if (bytes.readUInt16LE(16) !== sharedObject) throw refuse('NATIVE_DAMAGED', 'it is no shared object')
  const programs = { at: read64(32), count: bytes.readUInt16LE(56) }
  const sections = { at: read64(40), count: bytes.readUInt16LE(60) }
  const complete = (end: number) => {
    if (!(end <= size)) throw refuse('NATIVE_DAMAGED', `it has ${size} bytes, and its headers name ${end}`)
  }
  complete(programs.at + programs.count * programBytes)
  complete(sections.at + sections.count * sectionBytes)
  for (let i = 0; i < programs.count; i++) {
    const at = programs.at + i * programBytes
    if (at + programBytes > bytes.length) throw refuse('NATIVE_DAMAGED', 'its headers are not where they should be')
    complete(read64(at + 8) + read64(at + 32)) // the part of the file that the loader maps as this segment
  }
}

/** The first page of the file, which holds its headers, and its size. */
function readHead(path: string): { bytes: Buffer; size: number } {
  const file = openSync(path, 'r')
  try {
    const bytes = Buffer.alloc(4096)
    const count = readSync(file, bytes, 0, bytes.length, 0)
    return { bytes: bytes.subarray(0, count), size: fstatSync(file).size }
  } finally {
    closeSync(file)
  }
}
