// Tests of streams that cannot be written on: the client does not read, or an earlier answer is still being sent.
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { expect, it } from 'vitest'
import { EventStream } from '../../../lib/server/event_stream.js'
import { Outbox } from '../../../lib/server/outbox.js'

it('cuts off a client that leaves the end unread, though there is room for it', async () => {
  // More bytes than the operating system buffers, fewer than the response buffers before it asks to wait.
  const server = createServer({ highWaterMark: 2 ** 26 }, (_request, response) => {
    const events = new EventStream(response, {}, new Outbox(), 300)
    events.send('x'.repeat(2 ** 25))
    events.end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const asked = once(server, 'request').then(([, response]) => response as ServerResponse)
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  socket.pause().write('GET / HTTP/1.1\r\nhost: test\r\n\r\n')
  await once(await asked, 'close')
  let received = 0
  socket.on('data', (data) => {
    received += data.length
  })
  await new Promise((resolve) =>
    socket
      .resume()
      .on('close', resolve)
      .on('error', () => {}),
  )
  expect(received).toBeLessThan(2 ** 25)
  server.close()
})

it('waits behind an earlier answer on the connection for as long as that takes', async () => {
  const stallTimeoutMs = 200
  const server = createServer(async (request, response) => {
    if (request.url === '/first') {
      setTimeout(() => response.end('first'), 5 * stallTimeoutMs)
      return
    }
    const events = new EventStream(response, {}, new Outbox(), stallTimeoutMs)
    for (let i = 0; i < 4; i++) await events.send('x'.repeat(2 ** 15))
    events.end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const head = 'HTTP/1.1\r\nhost: test\r\n'
  socket.write(`GET /first ${head}\r\nGET /second ${head}connection: close\r\n\r\n`)
  let received = ''
  for await (const data of socket) received += data
  expect(received.match(/data: x+\n/g)).toHaveLength(4)
  expect(received).toContain('data: [DONE]')
  server.close()
})
