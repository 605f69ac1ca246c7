// What distributed.native.test.ts runs as each of two ranks with the variables of torchrun. Writes one line for each thing that it finds.
import { joinRanks, launcher, Model, type MorError, Trainer } from '../../lib/index.js'

const { rank } = launcher()!

async function main(): Promise<void> {
  const ranks = await joinRanks()
  console.log(`rank ${ranks.rank} of ${ranks.size}, gathered ${await ranks.gather(`text ${rank} ü`)}`)
  await using model = await Model.create(
    { vocab_size: 64, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 2 },
    { device: 'cpu', dtype: 'float32', threads: 1 },
  )
  try {
    new Trainer(model, { learningRate: 0.1, distributed: { ranks } })
  } catch (error) {
    const { code, message } = error as MorError
    console.log(`trainer: ${code} ${message}`)
  }
  await ranks.gather('both have seen it')
  await ranks.dispose()

  const again = await joinRanks()
  console.log(`joined again: gathered ${await again.gather(String(rank))}`)
  // Rank 1 leaves while rank 0 waits for it.
  const waiting = rank === 0 ? again.gather('in vain') : again.dispose().then(() => again.gather('too late'))
  const code = await waiting.then(
    () => 'no error',
    (error: MorError) => error.code,
  )
  console.log(`left alone: ${code}`)
  await again.dispose()
}

main().catch((error: unknown) => {
  console.log(`failed: ${error}`)
  process.exit(1)
})
