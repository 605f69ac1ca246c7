// A process that measures one case: `node worker.js <work> <request as JSON>`. It prints one JSON object a line as soon as it
// knows something, so that nothing is lost if it is ended.
import type { CaseLine } from '../lib/cases.js'
import type { Finding } from './findings.js'
import { decode } from './work_decode.js'
import { parity } from './work_parity.js'
import { pytorch } from './work_pytorch.js'
import { serve } from './work_serve.js'
import { train } from './work_train.js'

const works = { decode, parity, pytorch, serve, train }

export type WorkName = keyof typeof works

async function main([name, words]: string[]): Promise<void> {
  const say = (line: Finding | CaseLine): boolean => process.stdout.write(`${JSON.stringify(line)}\n`)
  const request = JSON.parse(words!)
  say({ begin: request.case })
  await works[name as WorkName](request, say)
  say({ end: request.case })
}

main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error)
  process.exit(1)
})
