// The client `local-completions` of EleutherAI's lm-evaluation-harness, written anew from what it sends and how it reads answers.
import type { Completion } from '../../../lib/server/index.js'

/** A continuation in its context, as the harness knows it. */
export interface Likelihood {
  logprob: number
  /** Whether a greedy choice gives each of its tokens. */
  greedy: boolean
}

/** Without a key the harness sends an empty one. */
const headers = { 'content-type': 'application/json', accept: 'application/json', authorization: 'Bearer ' }

/** @throws with the answer's text where it is not 200, as the harness gives up then */
export async function postJson<Answer>(url: string, body: object): Promise<Answer> {
  return answerOf(await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) }))
}

async function answerOf<Answer>(response: Response): Promise<Answer> {
  if (response.ok) return (await response.json()) as Answer
  throw new Error(`${response.status}: ${await response.text()}`)
}

export function complete(url: string, body: object): Promise<Completion> {
  return postJson(`${url}/v1/completions`, body)
}

/**
 * The answer to a request with `max_tokens` 1. The last entry of each list is of the generated token, whatever it is. A token is
 * taken for the greedy one if its log-probability is the very number that is the largest of the listed ones.
 * @param contextLengths tokens of each prompt that are not scored
 */
export function likelihoods({ choices }: Completion, contextLengths: readonly number[]): Likelihood[] {
  return byIndex(choices).map(({ logprobs }, i) => {
    const scored = <T>(list: readonly T[]) => list.slice(contextLengths[i], -1)
    const numbers = scored(logprobs!.token_logprobs).map((number) => number!)
    const listed = scored(logprobs!.top_logprobs!).map((top) => Math.max(...Object.values(top!)))
    return { logprob: sum(numbers), greedy: numbers.every((number, token) => number === listed[token]) }
  })
}

/** The same as versions before 0.4.4 read it, with `max_tokens` 0: the greedy token is the listed one of that name. */
export function likelihoodsByName({ choices }: Completion, contextLengths: readonly number[]): Likelihood[] {
  return byIndex(choices).map(({ logprobs }, i) => {
    const { tokens, token_logprobs, top_logprobs } = logprobs!
    const numbers = token_logprobs.slice(contextLengths[i]).map((number) => number!)
    const names = top_logprobs!.slice(contextLengths[i]).map((top) => {
      return Object.entries(top!).reduce((best, entry) => (entry[1] > best[1] ? entry : best))[0]
    })
    return { logprob: sum(numbers), greedy: names.every((name, token) => name === tokens[contextLengths[i]! + token]) }
  })
}

export function texts({ choices }: Completion): string[] {
  return byIndex(choices).map(({ text }) => text)
}

function byIndex(choices: Completion['choices']): Completion['choices'] {
  return [...choices].sort((a, b) => a.index - b.index)
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}

/**
 * Windows for the log-likelihood of a whole text, of which each token is predicted once: the context and what is scored after it.
 * @param prefix what the first token follows; @param most tokens that a window predicts and, with the one before, sees
 */
export function rollingWindows(tokens: readonly number[], prefix: number, most: number): [number[], number[]][] {
  const all = [prefix, ...tokens]
  const windows: [number[], number[]][] = []
  for (let done = 0; done < tokens.length; ) {
    const end = Math.min(done + most, tokens.length)
    // The last window begins earlier, so that it sees as much as the others.
    windows.push([all.slice(Math.max(0, end - most), done + 1), all.slice(done + 1, end + 1)])
    done = end
  }
  return windows
}

/** Its remote tokenizer, which first looks whether the server has one. */
export class RemoteTokenizer {
  private constructor(
    readonly url: string,
    readonly info: { eos_token: string | null; bos_token?: string | null; chat_template?: string | null },
  ) {}

  static async connect(completionsUrl: string): Promise<RemoteTokenizer> {
    const url = completionsUrl.replace('/v1/completions', '')
    const info = await answerOf<RemoteTokenizer['info']>(await fetch(`${url}/tokenizer_info`, { headers }))
    if (!('eos_token' in info)) throw new Error('the server does not say the end token')
    const tokenizer = new RemoteTokenizer(url, info)
    await tokenizer.encode('test')
    return tokenizer
  }

  async encode(prompt: string): Promise<number[]> {
    const { tokens } = await postJson<{ tokens: number[] }>(`${this.url}/tokenize`, {
      prompt,
      add_special_tokens: false,
    })
    return tokens
  }

  async decode(tokens: readonly number[]): Promise<string> {
    return (await postJson<{ prompt: string }>(`${this.url}/detokenize`, { tokens })).prompt
  }

  /** The token that a text without a context follows. */
  async prefixToken(): Promise<number> {
    const [token] = await this.encode(this.info.bos_token ?? this.info.eos_token!)
    return token!
  }
}
