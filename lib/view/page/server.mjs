// The page's requests to its server.

/** The server needs an API key, and the request had none or a wrong one. */
export class KeyNeeded extends Error {}

/** The model, and what the engine does at the moment. */
export async function fetchStats(key) {
  const response = await ask('view/stats', key)
  return response.json()
}

/** The events of one generation as they arrive. */
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

/** Reads a stream chunk by chunk, since not every browser can iterate one. */
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
