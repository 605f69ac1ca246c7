// deploy/Dockerfile as a text: it is correct, and fits the package and the server. Images are not built here.
import { readFileSync } from 'node:fs'
import { validate } from 'dockerfile-utils'
import { describe, expect, it } from 'vitest'
import { makeProgram } from '../../lib/cli/program.js'
import { argumentsOf, entrypoint, text, user } from './dockerfile.js'

const { name, version, engines, bin } = JSON.parse(readFileSync('package.json', 'utf8'))

describe('the Dockerfile', () => {
  it('has no mistake that a linter finds', () => {
    expect(validate(text)).toEqual([])
    const wrong = [
      text.replace('WORKDIR', 'WORKDIRECTORY'),
      text.replace('--from', '--form'),
      text.replace('FROM', 'RUN'),
    ]
    for (const one of wrong) expect(validate(one)).not.toEqual([])
  })

  it('installs the tarball of npm pack, and nothing else', () => {
    const [tarball] = argumentsOf('COPY')[0]!.split(' ') as [string]
    expect(`${name}-${version}.tgz`).toMatch(new RegExp(`^${tarball.replaceAll('.', '\\.').replace('*', '.*')}$`))
    expect(argumentsOf('RUN')).toEqual([expect.stringMatching(/^npm install [^;&|]*\.tgz$/)])
  })

  it('has a Node that the package supports', () => {
    const [, major] = /^NODE_IMAGE=node:(\d+)-/.exec(argumentsOf('ARG')[0]!)!
    expect(Number(major)).toBeGreaterThanOrEqual(Number(engines.node.slice('>='.length)))
  })

  it('starts one process without root’s rights, which listens at the exposed port', () => {
    expect(user()).toMatch(/^[1-9]\d*:[1-9]\d*$/)
    const [program, command] = entrypoint()
    expect(Object.keys(bin)).toContain(program)
    const serve = makeProgram().commands.find((one) => one.name() === command)!
    expect(argumentsOf('EXPOSE')).toEqual([`${serve.getOptionValue('port')}`])
  })
})
