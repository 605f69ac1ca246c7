// nginx as a process of its own at a free port of 127.0.0.1, with deploy/nginx.conf.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** Null where it is not installed. Debian's is not on everybody's PATH. */
export const nginx = ['nginx', '/usr/sbin/nginx'].find((program) => spawnSync(program, ['-v']).status === 0) ?? null

/** The header that says which replica answered; a request that was sent to several lists them with commas. */
export const REPLICA = 'x-replica'

export interface NginxProxy {
  url: string
  /** What nginx wrote about errors until now. */
  log(): Promise<string>
  stop(): Promise<void>
}

/**
 * Resolves when it answers.
 * @param replicas their URLs
 * @param options.takeTurns each request goes to the next replica, whatever its prompt is
 */
export async function startProxy(
  replicas: readonly [string, string],
  { takeTurns = false }: { takeTurns?: boolean } = {},
): Promise<NginxProxy> {
  const folder = await mkdtemp(join(tmpdir(), 'mor-nginx-'))
  const address = `127.0.0.1:${await freePort()}`
  const errorLog = join(folder, 'error.log')
  await writeFile(join(folder, 'replicas.conf'), await configuration(address, replicas, takeTurns))
  await writeFile(join(folder, 'nginx.conf'), surroundings(folder, errorLog))
  const child = spawn(nginx!, ['-p', folder, '-e', errorLog, '-c', join(folder, 'nginx.conf')], { stdio: 'ignore' })
  const log = () => readFile(errorLog, 'utf8')
  const ended = once(child, 'exit')
  const proxy = {
    url: `http://${address}`,
    log,
    async stop() {
      child.kill('SIGTERM')
      await ended
      await rm(folder, { recursive: true })
    },
  }
  while (!(await answers(proxy.url))) {
    if (child.exitCode !== null) throw new Error(`nginx ended with ${child.exitCode}: ${await log()}`)
    await sleep(20)
  }
  return proxy
}

/** The file of deploy/ with other addresses. */
async function configuration(address: string, replicas: readonly [string, string], takeTurns: boolean) {
  let text = await readFile(join('deploy', 'nginx.conf'), 'utf8')
  const replace = (old: string, by: string) => {
    if (!text.includes(old)) throw new Error(`deploy/nginx.conf has no ${JSON.stringify(old)}`)
    text = text.replace(old, by)
  }
  replace('listen 80;', `listen ${address};`)
  replicas.forEach((url, i) => {
    replace(`server replica-${i + 1}:8000`, `server ${new URL(url).host}`)
  })
  if (takeTurns) replace('hash $prompt_start consistent;', '')
  return text
}

/** One process that needs no rights and writes into its folder alone. */
function surroundings(folder: string, errorLog: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  return `
    daemon off;
    master_process off;
    pid ${join(folder, 'nginx.pid')};
    error_log ${errorLog} warn;
    events {}
    http {
      access_log off;
      ${temporary.map((name) => `${name}_temp_path ${join(folder, name)};`).join('\n')}
      add_header ${REPLICA} $upstream_addr always;
      include ${join(folder, 'replicas.conf')};
    }`
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

function answers(url: string): Promise<boolean> {
  return fetch(`${url}/health`).then(
    ({ ok }) => ok,
    () => false,
  )
}
