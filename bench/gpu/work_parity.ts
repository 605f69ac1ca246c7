// Parity of whole models with the CPU device.

import type { Common, Find } from './findings.js'
import { compare } from './parity.js'

export async function parity({ device }: Common, find: Find): Promise<void> {
  const found = await compare(device)
  find({ fact: 'parity', value: found })
  for (const [name, one] of Object.entries(found))
    if (!one.ok) find({ failure: `parity of ${name}`, why: JSON.stringify(one) })
}
