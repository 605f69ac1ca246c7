// The page's controls and what they do.
import { showHistogram, showLegend, tokenElement } from './depths.mjs'
import { showEngine, Throughput } from './engine_state.mjs'
import { fetchStats, generate, KeyNeeded } from './server.mjs'

const POLL_MS = 500

const elements = Object.fromEntries([...document.querySelectorAll('[id]')].map((element) => [element.id, element]))
const form = elements.request
const throughput = new Throughput()
let recursions = 1
let running = new AbortController()

form.addEventListener('submit', (event) => {
  event.preventDefault()
  run(readRequest())
})
elements.stop.addEventListener('click', () => running.abort())
elements.numbers.addEventListener('change', () => elements.text.classList.toggle('numbers', elements.numbers.checked))
form.elements.key.addEventListener('change', poll)
document.addEventListener('visibilitychange', poll)
poll()
setInterval(poll, POLL_MS)

/** The options that the reader has filled in. */
function readRequest() {
  const request = { prompt: form.elements.prompt.value }
  for (const name of ['maxTokens', 'temperature', 'seed', 'routerThreshold', 'maxRecursions']) {
    const { value } = form.elements[name]
    if (value !== '') request[name] = Number(value)
  }
  return request
}

async function run(request) {
  running.abort()
  const controller = new AbortController()
  running = controller
  const counts = new Array(recursions + 1).fill(0)
  const started = performance.now()
  let ended = 'stopped'
  const prompt = document.createElement('span')
  prompt.className = 'prompt'
  prompt.textContent = request.prompt
  elements.text.replaceChildren(prompt)
  elements.failure.textContent = ''
  elements.summary.textContent = 'generating'
  elements.stop.disabled = false
  showHistogram(elements.histogram, elements.mean, counts)
  try {
    for await (const event of generate(request, form.elements.key.value, controller.signal)) {
      if (event.type === 'error') throw new Error(event.message)
      if (event.type === 'end') {
        elements.text.append(event.text)
        ended = `ended by ${event.finishReason}`
        continue
      }
      counts[event.depth]++
      elements.text.append(tokenElement(event, recursions))
      showHistogram(elements.histogram, elements.mean, counts)
    }
  } catch (error) {
    if (!controller.signal.aborted) {
      ended = 'failed'
      fail(error)
    }
  }
  if (running !== controller) return
  const tokens = counts.reduce((sum, count) => sum + count, 0)
  const seconds = (performance.now() - started) / 1000
  elements.stop.disabled = true
  elements.summary.textContent = `${tokens} tokens, ${(tokens / seconds).toFixed(1)} tokens/s, ${ended}`
}

async function poll() {
  if (document.hidden) return
  try {
    const { model, engine } = await fetchStats(form.elements.key.value)
    if (elements.model.textContent === '') showModel(model)
    elements.key.hidden = form.elements.key.value === ''
    showEngine(elements, engine, throughput.add(engine.tokensGenerated, performance.now()))
  } catch (error) {
    elements.throughput.textContent = error instanceof KeyNeeded ? 'needs the API key' : 'the server does not answer'
    if (error instanceof KeyNeeded) elements.key.hidden = false
  }
}

function showModel({ name, recursions: depth, context, kvCache, router }) {
  recursions = depth
  elements.model.textContent = `${name}: ${depth} recursions, context ${context}, ${kvCache} KV cache`
  form.elements.maxRecursions.max = depth
  elements.threshold.hidden = router !== 'expert_choice'
  const { maxTokens } = form.elements
  maxTokens.max = context - 1
  maxTokens.value = Math.min(maxTokens.value, context - 1)
  elements.generate.disabled = false
  showLegend(elements.legend, depth)
  showHistogram(elements.histogram, elements.mean, new Array(depth + 1).fill(0))
}

function fail(error) {
  elements.failure.textContent = error.message
  if (error instanceof KeyNeeded) elements.key.hidden = false
}
