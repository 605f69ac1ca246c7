// Ranks of the addon.
import type { ErrorCode } from '../errors.js'

/** Seconds after which ranks give up: one that waits for others to start, and all that hear nothing of another one. */
export interface NativeJoinOptions {
  joinTimeout: number
  silenceTimeout: number
}

/** This process among those that a launcher started. */
export interface NativeRanks {
  rank(): number
  size(): number
  /** The texts of all ranks, in their order. */
  gather(text: string): Promise<string[]>
  /** Rejects with this error, which all ranks get in place of the texts that the others gather. */
  fail(code: ErrorCode, message: string): Promise<never>
  /** Throws COMMUNICATION_FAILED if the ranks cannot train together on a device like this one. */
  requireDevice(device: string): void
  /** Ends all calls that wait for other ranks, those of a trainer too. Resolves when they have ended. */
  dispose(): Promise<void>
}
