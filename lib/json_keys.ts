// Finds a key that an object of a JSON text holds twice: JSON.parse would keep the last and say nothing.

/** The first key that some object in `json` repeats, or null. `json` must be valid JSON. */
export function repeatedKey(json: string): string | null {
  const tokens = /"(?:[^"\\]|\\.)*"|[{}[\]:]/g
  const scopes: (Set<string> | null)[] = []
  let previous = ''
  for (const [token] of json.matchAll(tokens)) {
    if (token === '{') scopes.push(new Set())
    else if (token === '[') scopes.push(null)
    else if (token === '}' || token === ']') scopes.pop()
    else if (token === ':') {
      const key = JSON.parse(previous) as string
      const keys = scopes.at(-1)!
      if (keys.has(key)) return key
      keys.add(key)
    }
    previous = token
  }
  return null
}
