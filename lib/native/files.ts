// Tensors that the addon reads from files and writes to them.

export type SafetensorsFloat = 'F32' | 'BF16' | 'F16'

/** Tensors to read from one file. Offsets are absolute byte offsets in that file. */
export interface NativeReadFile {
  path: string
  tensors: {
    name: string
    dtype: SafetensorsFloat
    offset: number
    bytes: number
    /** Heads of a q or k projection whose rows are in the order of llama.cpp; left out: in that of Hugging Face. */
    interleavedHeads?: number
  }[]
}

/** A tensor that is made of tensors of other files: their mean, element by element, in float32. */
export interface NativeDerivedTensor {
  /** For messages. */
  name: string
  dtype: SafetensorsFloat
  shape: readonly number[]
  /**
   * One of the same dtype is copied as it is. None: `values`, or else normal numbers, or else zeros. `name` is that of the tensor
   * there, for messages.
   */
  sources: { path: string; name: string; dtype: SafetensorsFloat; offset: number }[]
  values?: Float32Array
  /** Tensors of different streams get different numbers. */
  normal?: { deviation: number; stream: number }
  /**
   * Changes the order of the rows of each rotary head: from Hugging Face's, first halves before second halves, to that of
   * llama.cpp, where the halves of a pair are side by side; without `interleaves` the other way.
   */
  rowOrder?: { heads: number; interleaves: boolean }
  /** Zero bytes that follow it in the file. */
  padding: number
}

export interface NativeDerivedFile {
  name: string
  /** The first bytes. */
  head: Uint8Array
  tensors: NativeDerivedTensor[]
}

/** A file to write: bytes, and after them tensors, one after another. */
export interface NativeSavedFile {
  name: string
  /** The first bytes. A trainer's may be in pieces: between two of them stands the number of optimizer steps done. */
  head: Uint8Array[]
  tensors: { name: string; dtype: 'F32' | 'BF16' }[]
  /**
   * An index of which this file takes the place: the index and the `.safetensors` files that it names are removed from the
   * folder once everything is in place, the index last.
   */
  replaces?: string
}
