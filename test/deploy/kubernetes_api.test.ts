// The manifests of deploy/kubernetes/ against Kubernetes' API, and that the comparison finds what can be wrong with one.
import { expect, it } from 'vitest'
import { problemsOf } from './kubernetes_api.js'
import { type Manifest, manifestOf, manifests } from './manifests.js'

// A machine may be busy with much else.
const timeout = 60_000

it('the manifests are what Kubernetes expects', { timeout }, async () => {
  const all = manifests()
  expect(all.length).toBeGreaterThan(3)
  const problems = await problemsOf(all.map(({ manifest }) => manifest))
  expect(all.map(({ file }, i) => [file, problems[i]])).toEqual(all.map(({ file }) => [file, []]))
})

/** The Deployment with another value at a path; undefined takes the field away. */
function changed(path: string, value: unknown): Manifest {
  const manifest = manifestOf<Manifest>('Deployment')
  const keys = path.split('.')
  const last = keys.pop()!
  const parent = keys.reduce((at: unknown, key) => (at as Record<string, unknown>)[key], manifest)
  ;(parent as Record<string, unknown>)[last] = value
  return manifest
}

it('finds a field, type, kind or version that Kubernetes does not know', { timeout }, async () => {
  const container = 'spec.template.spec.containers.0'
  const wrong: [manifest: Manifest, message: RegExp][] = [
    [changed('spec.replica', 2), /"replica"' does not exist/],
    [changed(`${container}.readynessProbe`, {}), /"readynessProbe"' does not exist/],
    [changed('spec.replicas', '2'), /'string' is not assignable to type 'number'/],
    [changed(`${container}.args.0`, 30), /'number' is not assignable to type 'string'/],
    [changed(`${container}.ports`, { containerPort: 8000 }), /does not exist in type 'ContainerPort\[\]'/],
    [changed('spec.selector', undefined), /'selector' is missing/],
    [changed('kind', 'Deploiment'), /has no exported member/],
    [changed('apiVersion', 'apps/v3'), /Cannot find module/],
    [changed('apiVersion', 'v1'), /has no exported member/],
  ]
  const problems = await problemsOf(wrong.map(([manifest]) => manifest))
  wrong.forEach(([, message], i) => {
    expect(problems[i]!.join('\n')).toMatch(message)
  })
})
