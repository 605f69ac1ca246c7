// Loads the package, uses it and closes it again and again, each time in a new worker thread: `node cycles.cjs <cycles>`.
// Prints the resident memory after a fifth of the cycles and at the end.
const { isMainThread, Worker } = require('node:worker_threads')

async function main(cycles) {
  const resident = []
  for (let cycle = 1; cycle <= cycles; cycle++) {
    await new Promise((resolve, reject) => {
      new Worker(__filename)
        .on('error', reject)
        .on('exit', (code) => (code === 0 ? resolve() : reject(new Error(`cycle ${cycle} ended with ${code}`))))
    })
    if (cycle === Math.ceil(cycles / 5) || cycle === cycles) resident.push(process.memoryUsage.rss())
  }
  console.log(JSON.stringify(resident))
}

if (isMainThread) main(Number(process.argv[2]))
else require('./use.cjs').use()
