// Shows depths: shaded tokens, the legend, the histogram. Text is always set as text, so that nothing that a model
// generates becomes markup.

/** The place of `depth` between the shallowest, 1 (result 0), and the deepest, `recursions` (result 1). Depth 0 counts as 1. */
export function shadeOf(depth, recursions) {
  return recursions > 1 ? Math.max(depth - 1, 0) / (recursions - 1) : 0
}

export function tokenElement({ text, depth, logprob }, recursions) {
  const element = shaded('token', text, depth, recursions)
  element.dataset.depth = depth
  element.title = `depth ${depth}, probability ${percent(Math.exp(logprob))}`
  element.classList.toggle('line-end', text.includes('\n'))
  return element
}

export function showLegend(element, recursions) {
  if (recursions === 1) {
    element.textContent = 'This model runs every token through all layers once: there is one depth.'
    return
  }
  const swatches = Array.from({ length: recursions }, (_, i) => shaded('swatch', String(i + 1), i + 1, recursions))
  element.replaceChildren('Recursions that a token ran, from shallow to deep:', ...swatches)
}

/** @param counts tokens by depth, from 0 on; depth 0 has a row only if there are such tokens */
export function showHistogram(table, mean, counts) {
  const total = counts.reduce((sum, count) => sum + count, 0)
  const recursions = counts.length - 1
  const rows = counts.map((count, depth) => histogramRow(depth, recursions, count, total === 0 ? 0 : count / total))
  table.tBodies[0].replaceChildren(...(counts[0] > 0 ? rows : rows.slice(1)))
  const depths = counts.reduce((sum, count, depth) => sum + count * depth, 0)
  mean.textContent = total === 0 ? '–' : (depths / total).toFixed(2)
}

function histogramRow(depth, recursions, count, share) {
  const row = document.createElement('tr')
  const head = document.createElement('th')
  head.scope = 'row'
  head.append(shaded('swatch', String(depth), depth, recursions))
  const bar = document.createElement('span')
  bar.className = 'bar'
  bar.style.setProperty('--part', share)
  row.append(head)
  row.insertCell().textContent = count
  row.insertCell().append(bar, percent(share))
  return row
}

function shaded(className, text, depth, recursions) {
  const element = document.createElement('span')
  element.className = className
  element.textContent = text
  element.style.setProperty('--share', shadeOf(depth, recursions))
  return element
}

function percent(share) {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`
}
