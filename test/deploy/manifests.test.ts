// The manifests of deploy/ against the server and its command line: what they name must be there, and times and limits must fit
// together.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Deployment } from 'kubernetes-types/apps/v1.js'
import type { HorizontalPodAutoscaler } from 'kubernetes-types/autoscaling/v2.js'
import type { Container, PersistentVolumeClaim, Service } from 'kubernetes-types/core/v1.js'
import { describe, expect, it } from 'vitest'
import { makeProgram } from '../../lib/cli/program.js'
import { LAST_WORDS_MS } from '../../lib/server/drain.js'
import { createServer } from '../../lib/server/index.js'
import { Tokenizer } from '../../lib/tokenizer.js'
import { answerText, ScriptedEngine } from '../lib/server/scripted_engine.js'
import { entrypoint, user } from './dockerfile.js'
import { manifestOf, metricRules } from './manifests.js'

const deployment = manifestOf<Deployment>('Deployment')
const template = deployment.spec!.template
const pod = template.spec!
const container = pod.containers[0] as Container

const apiKey = 'secret'
const server = () =>
  createServer({
    engine: new ScriptedEngine(answerText('x')),
    tokenizer: Tokenizer.byteLevel(),
    modelName: 'tiny',
    apiKey,
  })

const [program, commandName, ...fixed] = entrypoint()
const command = makeProgram().commands.find((one) => one.name() === commandName)!

/** What the process in a container is told, with the defaults of `mor serve`. */
function serveOptions() {
  const { operands, unknown } = command.parseOptions([...fixed, ...container.args!])
  expect([...operands, ...unknown]).toEqual([])
  return command.opts()
}

/** Of a quantity of Kubernetes such as 16Gi. */
function bytesOf(quantity: string | undefined): number {
  const [, count, unit] = /^([1-9]\d*)(Ki|Mi|Gi|Ti)$/.exec(quantity ?? '') ?? []
  if (unit === undefined) throw new Error(`${quantity} is no number of bytes such as 16Gi`)
  return Number(count) * 1024 ** (['Ki', 'Mi', 'Gi', 'Ti'].indexOf(unit) + 1)
}

describe('the container', () => {
  it('runs mor serve with options that it has', () => {
    expect([program, commandName]).toEqual(['mor', 'serve'])
    expect(serveOptions()).toMatchObject({ host: '0.0.0.0', model: container.volumeMounts![0]!.mountPath })
    const variables = command.options.map(({ envVar }) => envVar)
    for (const { name } of container.env!) expect(variables).toContain(name)
  })

  it('has the image of this version, and its user', () => {
    const { name, version } = JSON.parse(readFileSync('package.json', 'utf8'))
    expect(container.image).toBe(`${name}:${version}`)
    const { runAsUser, runAsGroup, runAsNonRoot } = pod.securityContext!
    expect([`${runAsUser}:${runAsGroup}`, runAsNonRoot]).toEqual([user(), true])
  })

  it('is asked at the port where the server listens', () => {
    expect(container.ports).toEqual([{ name: 'http', containerPort: serveOptions().port }])
    const { startupProbe, livenessProbe, readinessProbe } = container
    for (const probe of [startupProbe, livenessProbe, readinessProbe]) expect(probe!.httpGet!.port).toBe('http')
    expect(template.metadata!.annotations!['prometheus.io/port']).toBe(`${serveOptions().port}`)
  })

  it('is asked for paths that the server answers without a key', async () => {
    const app = server()
    const { startupProbe, livenessProbe, readinessProbe } = container
    for (const probe of [startupProbe, livenessProbe, readinessProbe]) {
      const answer = await app.inject({ method: 'GET', url: probe!.httpGet!.path! })
      expect([probe!.httpGet!.path, answer.statusCode]).toEqual([probe!.httpGet!.path, 200])
    }
    await app.close()
  })

  it('is not restarted while it drains, but gets no requests', async () => {
    const app = server()
    let answers: Promise<number>[] = []
    app.addHook('preClose', (done) => {
      const { livenessProbe, readinessProbe } = container
      answers = [livenessProbe, readinessProbe].map(async (probe) => {
        const answer = await app.inject({ method: 'GET', url: probe!.httpGet!.path! })
        return answer.statusCode
      })
      done()
    })
    await app.ready()
    await app.close()
    expect(await Promise.all(answers)).toEqual([200, 503])
  })

  it('has time to drain', () => {
    const pause = container.lifecycle!.preStop!.sleep!.seconds
    const { drainTimeout } = serveOptions()
    // A fifth more: the process must also end.
    const needed = 1.2 * (pause + drainTimeout + LAST_WORDS_MS / 1000)
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(needed)
  })

  it('leaves threads and memory to the limits, which the server reads from its control group', () => {
    const { limits, requests } = container.resources!
    expect(requests).toEqual(limits)
    expect(limits!.cpu).toMatch(/^[1-9]\d*$/) // threads are whole
    expect(bytesOf(limits!.memory)).toBeGreaterThan(2 ** 30)
    expect(serveOptions()).toMatchObject({ threads: 0, kvCacheBytes: 0 })
  })

  it('finds the model in the claimed volume', () => {
    const claim = manifestOf<PersistentVolumeClaim>('PersistentVolumeClaim')
    expect(bytesOf(claim.spec!.resources!.requests!.storage)).toBeGreaterThan(0)
    const volume = pod.volumes!.find(({ name }) => name === container.volumeMounts![0]!.name)
    expect(volume!.persistentVolumeClaim!.claimName).toBe(claim.metadata!.name)
  })
})

describe('around it', () => {
  it('Deployment and Service select the pods', () => {
    const { selector, ports } = manifestOf<Service>('Service').spec!
    expect(template.metadata!.labels).toMatchObject(selector!)
    expect(template.metadata!.labels).toMatchObject(deployment.spec!.selector.matchLabels!)
    const spread = pod.topologySpreadConstraints!.map(({ labelSelector }) => labelSelector!.matchLabels!)
    for (const labels of spread) expect(template.metadata!.labels).toMatchObject(labels)
    expect(ports!.map(({ targetPort }) => targetPort)).toEqual(container.ports!.map(({ name }) => name))
  })

  it('the autoscaler goes by metrics that the server has', async () => {
    const app = server()
    const url = template.metadata!.annotations!['prometheus.io/path']!
    const answer = await app.inject({ method: 'GET', url, headers: { authorization: `Bearer ${apiKey}` } })
    expect(answer.statusCode).toBe(200)
    await app.close()
    const names = [...answer.payload.matchAll(/^# TYPE (\S+) gauge$/gm)].map((match) => match[1]!)
    const given = metricRules().flatMap(({ seriesQuery, name: { matches, as } }) => {
      const series = new RegExp(/__name__=~"([^"]*)"/.exec(seriesQuery)![1]!)
      const renamed = as.replace(/\$\{(\d+)\}/g, '$$$1')
      return names.filter((name) => series.test(name)).map((name) => name.replace(new RegExp(matches), renamed))
    })
    const { scaleTargetRef, metrics } = manifestOf<HorizontalPodAutoscaler>('HorizontalPodAutoscaler').spec!
    const { apiVersion, kind, metadata } = deployment
    expect(scaleTargetRef).toEqual({ apiVersion, kind, name: metadata!.name })
    const targets = metrics!.map(({ pods }) => [pods!.metric.name, Number(pods!.target.averageValue)] as const)
    expect(given.sort()).toEqual(targets.map(([name]) => name).sort())
    expect(new Map(targets).get('vllm_num_requests_running')).toBe(0.75 * serveOptions().maxBatchSize)
  })

  it('nginx takes bodies as large as the server does', () => {
    const [, megabytes] = /client_max_body_size (\d+)m;/.exec(readFileSync(join('deploy', 'nginx.conf'), 'utf8'))!
    expect(Number(megabytes) * 2 ** 20).toBe(serveOptions().bodyLimitBytes)
  })
})
