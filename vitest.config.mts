// Where the TypeScript tests are and how they run. Says nothing of what they test.
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
  },
})
