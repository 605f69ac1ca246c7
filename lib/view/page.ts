// The files of the page, as they lie in the package, and how they are sent.
// Must not know: what is in them.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface PageFile {
  url: string
  type: string
  content: Buffer
}

/** Seen from the sources and from `dist` alike: the page is not compiled. */
const folder = join(__dirname, '..', '..', 'lib', 'view', 'page')

const files = {
  'index.html': 'text/html; charset=utf-8',
  'view.css': 'text/css; charset=utf-8',
  'view.mjs': 'text/javascript; charset=utf-8',
  'depths.mjs': 'text/javascript; charset=utf-8',
  'engine_state.mjs': 'text/javascript; charset=utf-8',
  'server.mjs': 'text/javascript; charset=utf-8',
}

/** Nothing but the page's own files runs or is loaded, whatever a model writes. */
export const pageHeaders = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; " +
    "form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-cache',
}

export function readPage(): Promise<PageFile[]> {
  return Promise.all(
    Object.entries(files).map(async ([name, type]) => ({
      url: name === 'index.html' ? '/' : `/view/${name}`,
      type,
      content: await readFile(join(folder, name)),
    })),
  )
}
