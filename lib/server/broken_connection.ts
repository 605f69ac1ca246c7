// Answers bytes that are not HTTP or arrive too slowly, for which there is a socket but no request.
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import { ApiError } from './api_error.js'
import { hasBegunAnswer } from './connection.js'

const answers: Record<string, [status: number, message: string]> = {
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'the request did not arrive in time'],
  HPE_HEADER_OVERFLOW: [431, 'the headers are too large'],
}

export function answerBrokenConnection(error: NodeJS.ErrnoException, socket: Socket): void {
  // In the middle of a stream, a client would take the answer for a part of it.
  if (error.code === 'ECONNRESET' || !socket.writable || hasBegunAnswer(socket)) {
    socket.destroy()
    return
  }
  const [status, message] = answers[error.code ?? ''] ?? [400, 'the request is not valid HTTP']
  const body = JSON.stringify(new ApiError(status, message, 'bad_request').body)
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nconnection: close\r\ncontent-type: application/json\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
  socket.destroySoon() // does not wait for the client to close its side
}
