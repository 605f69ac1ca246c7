// Where the TypeScript tests are and how they run. Says nothing of what they test.
import { defineConfig } from 'vitest/config'

// Whether libraries colour their output depends on the terminal, on CI and on two variables. The tests always see colours, so that a test
// which forgets them fails on every machine.
delete process.env.NO_COLOR

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: 'test/temporary_folder.ts',
    pool: 'forks',
    maxWorkers: '100%', // The default leaves a processor idle, which on two of them is half of the machine.
    env: { FORCE_COLOR: '1' },
  },
})
