// Finds a key that an object of a JSON text holds twice: JSON.parse would keep the last and say nothing.

/** The first key that some object in `json` repeats, or null. `json` must be valid JSON. */
export function repeatedKey(json: string): string | null {
  const scopes: (Set<string> | null)[] = []
  let text = ''
  for (let at = 0; at < json.length; at++) {
    switch (json[at]) {
      case '"': {
        const end = endOfText(json, at)
        text = json.slice(at, end)
        at = end - 1
        break
      }
      case '{':
        scopes.push(new Set())
        break
      case '[':
        scopes.push(null)
        break
      case '}':
      case ']':
        scopes.pop()
        break
      case ':': {
        const key = JSON.parse(text) as string
        const keys = scopes.at(-1)!
        if (keys.has(key)) return key
        keys.add(key)
      }
    }
  }
  return null
}

/** Behind the text that begins at `start`. A regular expression would need stack for each of its characters, which may be many millions. */
function endOfText(json: string, start: number): number {
  let at = start + 1
  while (json[at] !== '"') at += json[at] === '\\' ? 2 : 1
  return at + 1
}
