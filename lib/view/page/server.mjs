// What the page asks of its server. Must not know the page.

/** The server wants a key that it was not given. */
export class KeyNeeded extends Error {}

/** What the engine is and does now. */
export async function fetchStats(key) {
  const response = await ask('view/stats', key)
  return response.json()
}

/** The events of one generation, as they come. */
export async function* generate(request, key, signal) {
  const response = await ask('view/generate', key, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(request),
    signal,
  })
  let rest = ''
  for await (const piece of texts(response.body.pipeThrough(new TextDecoderStream()))) {
    const events = (rest + piece).split('\n\n')
    rest = events.pop()
    for (const event of events) yield JSON.parse(event.slice('data: '.length))
  }
}

/** Not every browser lets a stream be iterated. */
async function* texts(stream) {
  const reader = stream.getReader()
  for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value
}

async function ask(url, key, options = {}) {
  const headers = { ...options.headers, ...(key !== '' && { authorization: `Bearer ${key}` }) }
  const response = await fetch(url, { ...options, headers })
  if (response.ok) return response
  const { error } = await response.json()
  throw response.status === 401 ? new KeyNeeded(error.message) : new Error(error.message)
}
