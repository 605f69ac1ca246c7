// Checks whether a request has the server's API key.
import { createHash, timingSafeEqual } from 'node:crypto'
import { ApiError } from './api_error.js'

/** A check of the Authorization header that takes the same time for every wrong key. It throws ApiError 401. */
export function bearerCheck(apiKey: string): (header: string | undefined) => void {
  const expected = digest(apiKey)
  return (header) => {
    const key = /^Bearer +(.*)$/i.exec(header ?? '')?.[1]
    if (key !== undefined && timingSafeEqual(digest(key), expected)) return
    const message =
      key === undefined
        ? 'no API key was given; send it as "Authorization: Bearer <key>"'
        : 'the API key is wrong; check the key that this server was started with'
    throw new ApiError(401, message, 'invalid_api_key')
  }
}

/** Digests of keys have the same length, so that they can be compared in constant time. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
