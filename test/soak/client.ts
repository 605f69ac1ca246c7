// Sends one planned request over loopback and reports how it ended.
import { type Agent, type IncomingMessage, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PlannedRequest } from './plan.js'

/** `left`: the client disconnected as planned. */
export type Ending = { end: 'left' } | { end: 'refused'; status: number } | { end: 'whole'; texts: string[] }

/** What completions and chats have in common, whole or streamed. */
interface Answer {
  choices: {
    index: number
    finish_reason: string | null
    text?: string
    message?: { content: string }
    delta?: { content?: string }
  }[]
}

function textOf({ text, message, delta }: Answer['choices'][number]): string {
  return text ?? message?.content ?? delta?.content ?? ''
}

/** Longest time a request may take. */
const PATIENCE_MS = 60_000

/** Rejects if the answer is wrong: a choice without a finish reason, a missing choice, a broken connection. */
export async function send(url: string, agent: Agent, planned: PlannedRequest): Promise<Ending> {
  const { route, body, fate, choices, leaveMs } = planned
  const controller = new AbortController()
  const left = fate === 'leave' ? setTimeout(() => controller.abort('left'), leaveMs) : undefined
  const patience = setTimeout(() => controller.abort('out of patience'), PATIENCE_MS)
  try {
    const response = await open(`${url}/v1/${route}`, agent, JSON.stringify(body), controller.signal)
    const text = await read(response, fate === 'slowly')
    if (response.statusCode !== 200) return { end: 'refused', status: response.statusCode! }
    return { end: 'whole', texts: body.stream ? textsOfStream(text, choices) : textsOfWhole(text, choices) }
  } catch (error) {
    if (controller.signal.reason === 'left') return { end: 'left' }
    throw controller.signal.aborted ? new Error(String(controller.signal.reason)) : error
  } finally {
    clearTimeout(left)
    clearTimeout(patience)
  }
}

function open(url: string, agent: Agent, body: string, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json' }
    request(url, { method: 'POST', agent, headers, signal }, resolve).on('error', reject).end(body)
  })
}

async function read(response: IncomingMessage, slowly: boolean): Promise<string> {
  let text = ''
  for await (const data of response.setEncoding('utf8')) {
    text += data
    if (slowly) await sleep(20)
  }
  return text
}

function textsOfWhole(text: string, choices: number): string[] {
  const completion = JSON.parse(text) as Answer
  completion.choices.forEach(checkReason)
  return checkCount(completion.choices.map(textOf), choices)
}

function textsOfStream(stream: string, choices: number): string[] {
  const events = stream.split('\n\n').map((event) => event.slice('data: '.length))
  if (events.pop() !== '' || events.pop() !== '[DONE]') throw new Error(`a stream broke off: ${stream.slice(-200)}`)
  const texts: string[] = []
  const ended = new Set<number>()
  for (const event of events) {
    for (const choice of (JSON.parse(event) as Answer).choices) {
      if (ended.has(choice.index)) throw new Error(`choice ${choice.index} goes on after its end`)
      texts[choice.index] = (texts[choice.index] ?? '') + textOf(choice)
      if (choice.finish_reason === null) continue
      checkReason(choice)
      ended.add(choice.index)
    }
  }
  if (ended.size !== choices) throw new Error(`${ended.size} of ${choices} choices ended with a reason`)
  return checkCount(texts, choices)
}

function checkReason({ finish_reason }: { finish_reason: string | null }): void {
  if (finish_reason !== 'stop' && finish_reason !== 'length') throw new Error(`a choice ended with ${finish_reason}`)
}

function checkCount(texts: string[], choices: number): string[] {
  if (texts.length !== choices) throw new Error(`${texts.length} choices came of ${choices}`)
  return texts
}
