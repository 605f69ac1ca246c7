// The instruction set of our kernels in this run, and how rivals are held to the same one where it is forced.
import { devices } from '../../lib/devices.js'
import type { DeviceInfo } from '../../lib/native/addon.js'

export type InstructionSet = NonNullable<DeviceInfo['instructionSet']>

/** The set in use, as `devices()` names it. */
export function instructionSet(): InstructionSet {
  const set = devices().find(({ id }) => id === 'cpu')?.instructionSet
  if (set === undefined) throw new Error('the CPU of this machine cannot be used; `mor doctor` says why')
  return set
}

/** The set that MOR_INSTRUCTION_SET names; undefined where the machine's best is used. */
export function forcedInstructionSet(): InstructionSet | undefined {
  return process.env.MOR_INSTRUCTION_SET ? instructionSet() : undefined
}

/** Variables that keep PyTorch's own loops, oneDNN and OpenBLAS from using more than a set. */
const limits: Record<InstructionSet, Record<string, string>> = {
  avx2: { ATEN_CPU_CAPABILITY: 'avx2', ONEDNN_MAX_CPU_ISA: 'AVX2', OPENBLAS_CORETYPE: 'Haswell' },
  avx512: { ATEN_CPU_CAPABILITY: 'avx512', ONEDNN_MAX_CPU_ISA: 'AVX512_CORE', OPENBLAS_CORETYPE: 'SkylakeX' },
  avx512_bf16: {
    ATEN_CPU_CAPABILITY: 'avx512',
    ONEDNN_MAX_CPU_ISA: 'AVX512_CORE_BF16',
    OPENBLAS_CORETYPE: 'Cooperlake',
  },
  amx: {},
  neon: {},
  neon_bf16: {},
}

/** What to add to the environment of a rival. @param set the forced one */
export function rivalLimits(set = forcedInstructionSet()): Record<string, string> {
  return set === undefined ? {} : limits[set]
}

/** The end of a sentence about a rival: empty where nothing is forced. */
export function heldToSet(set = forcedInstructionSet()): string {
  return set === undefined ? '' : `, held to ${set}`
}
