// The page of a report: one HTML file that needs nothing else to be shown.
import { readPageFile } from '../view/page.js'
import type { Chart } from './chart.js'
import { escapeHtml } from './html.js'

export interface ReportParts {
  /** Names of the runs. */
  runs: string[]
  /** HTML. */
  summary: string
  /** What a reader must know of the runs: text. */
  notes: string[]
  charts: { chart: Chart; svg: string }[]
  /** HTML; '' without depth maps. */
  depths: string
}

/** Nothing may be loaded or run, whatever stands in names and texts. */
const policy = "default-src 'none'; style-src 'unsafe-inline'"

const style = `
body {
  max-width: 72rem;
  margin: 0 auto;
  padding: 1rem;
  background: var(--paper);
  color: var(--ink);
  font: 1rem / 1.5 system-ui, sans-serif;
}
h1 { font-size: 1.5rem; }
h2 { margin-top: 2.5rem; font-size: 1.2rem; }
figure { margin: 2rem 0; }
figure svg { max-width: 100%; height: auto; }
figcaption, caption { color: var(--quiet); text-align: left; }
figcaption strong { display: block; color: var(--ink); font-size: 1.1rem; }
.wide { overflow-x: auto; font-size: 0.9rem; }
table { border-collapse: collapse; }
th, td { padding: 0.2rem 0.7rem 0.2rem 0; border-bottom: 1px solid var(--line); text-align: right; font-variant-numeric: tabular-nums; }
th:first-child { text-align: left; }
thead th { vertical-align: bottom; }
tbody th { font-weight: normal; }
tbody th, td { white-space: nowrap; }
.tables { display: flex; flex-wrap: wrap; gap: 1rem 4rem; margin: 1rem 0 2rem; }
summary { font-size: 1.1rem; font-weight: 600; }
.text {
  padding: 0.75rem;
  border: 1px solid var(--line);
  font: 1rem / 1.8 ui-monospace, monospace;
  overflow-wrap: anywhere;
  white-space: pre-wrap;
}
body:has(#numbers:checked) .token::after { content: attr(data-depth); font-size: 0.65em; vertical-align: sub; }
`

export async function makePage({ runs, summary, notes, charts, depths }: ReportParts): Promise<string> {
  const shared = await readPageFile('depths.css')
  const title = `Training runs: ${runs.join(', ')}`
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>${escapeHtml(title)}</title>`,
    // The charts are drawn on white.
    `<style>${shared}\n:root { color-scheme: light; }${style}</style>`,
    '</head>',
    '<body>',
    '<h1>Training runs</h1>',
    `<div class="wide">${summary}</div>`,
    ...(notes.length > 0 ? [`<ul>${notes.map((note) => `<li>${escapeHtml(note)}</li>`).join('')}</ul>`] : []),
    ...charts.map(({ chart, svg }) => figureOf(chart, svg)),
    depths,
    '</body>',
    '</html>',
    '',
  ].join('\n')
}

function figureOf({ name, title, caption }: Chart, svg: string): string {
  return [
    `<figure id="${name}">`,
    `<figcaption><strong>${escapeHtml(title)}</strong> ${escapeHtml(caption)}</figcaption>`,
    svg,
    '</figure>',
  ].join('\n')
}
