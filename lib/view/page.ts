// The files of the page and the headers that they are sent with.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface PageFile {
  url: string
  type: string
  content: Buffer
}

/** The page is not compiled; this path leads to it from the sources and from `dist`. */
const folder = join(__dirname, '..', '..', 'lib', 'view', 'page')

const files = {
  'index.html': 'text/html; charset=utf-8',
  'depths.css': 'text/css; charset=utf-8',
  'view.css': 'text/css; charset=utf-8',
  'view.mjs': 'text/javascript; charset=utf-8',
  'depths.mjs': 'text/javascript; charset=utf-8',
  'engine_state.mjs': 'text/javascript; charset=utf-8',
  'server.mjs': 'text/javascript; charset=utf-8',
}

/** Lets the browser load and run the page's own files only, whatever text a model generates. */
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
      content: await readPageFile(name),
    })),
  )
}

export function readPageFile(name: string): Promise<Buffer> {
  return readFile(join(folder, name))
}
