// Text as it may stand in HTML.

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

/** Between tags and in quoted attributes. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => entities[character]!)
}

/** A table whose first column heads its rows. The caption and the cells are text. */
export function tableOf(caption: string, head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[], tagOf: (column: number) => string) =>
    `<tr>${cells.map((cell, column) => `<${tagOf(column)}>${escapeHtml(cell)}</${tagOf(column).slice(0, 2)}>`).join('')}</tr>`
  return [
    `<table><caption>${escapeHtml(caption)}</caption>`,
    `<thead>${line(head, () => 'th scope="col"')}</thead>`,
    `<tbody>${rows.map((cells) => line(cells, (column) => (column === 0 ? 'th scope="row"' : 'td'))).join('\n')}</tbody>`,
    '</table>',
  ].join('\n')
}
