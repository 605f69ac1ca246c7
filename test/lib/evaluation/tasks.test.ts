// Tasks as callers and JSON files give them: what null means, and that a task stays as it was checked.
import { describe, expect, it } from 'vitest'
import { checkTask } from '../../../lib/evaluation/tasks.js'

describe('a task', () => {
  it('has null for keys that are left out', () => {
    const nulls = { limit: null, fewShot: null, fewShotData: null, seed: null, description: null, delimiter: null }
    const task = { name: 'words', type: 'last_word', data: 'a.jsonl' }
    expect(checkTask({ ...task, ...nulls, shotDelimiter: null }, 'task')).toEqual(task)
    const text = { name: 'text', type: 'perplexity', data: ['a.txt'] }
    expect(checkTask({ ...text, limit: null, length: null, stride: null, textField: null }, 'task')).toEqual(text)
  })

  it('stays as it was checked, whatever the caller does with his', () => {
    const data = ['a.txt']
    const given = { name: 'text', type: 'perplexity', data, limit: 3 }
    const task = checkTask(given, 'task')
    given.limit = 0
    data.pop()
    expect(task).toEqual({ name: 'text', type: 'perplexity', data: ['a.txt'], limit: 3 })
  })
})
