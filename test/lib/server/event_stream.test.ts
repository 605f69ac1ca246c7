// Tests of a stream whose end the client does not read.
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
