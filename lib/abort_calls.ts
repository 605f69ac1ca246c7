// What is called when a signal aborts: by one listener for each signal, because Node takes more than ten of one signal for a leak.

interface Group {
  calls: Set<() => void>
  listener: () => void
}

const groups = new WeakMap<AbortSignal, Group>()

/** @param signal has not aborted. @returns what is to be called once `call` is needed no more */
export function onAbort(signal: AbortSignal, call: () => void): () => void {
  const group = groups.get(signal) ?? newGroup(signal)
  const own = () => call() // The same call may be given twice.
  group.calls.add(own)
  return () => {
    group.calls.delete(own)
    if (group.calls.size > 0 || groups.get(signal) !== group) return
    groups.delete(signal)
    signal.removeEventListener('abort', group.listener)
  }
}

function newGroup(signal: AbortSignal): Group {
  const calls = new Set<() => void>()
  const listener = () => {
    groups.delete(signal)
    for (const call of calls) call()
  }
  const group = { calls, listener }
  groups.set(signal, group)
  signal.addEventListener('abort', listener, { once: true })
  return group
}
