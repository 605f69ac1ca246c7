// clang-format over every C++ and CUDA file that git tracks or would track; with --check it only reports.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

const patterns = ['*.h', '*.cpp', '*.cu', '*.cuh']
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '--', ...patterns], {
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '' && existsSync(file))
const mode = process.argv.includes('--check') ? ['--dry-run', '--Werror'] : ['-i']
const { status, error } = spawnSync('clang-format', [...mode, ...files], { stdio: 'inherit' })
if (error) {
  console.error(`clang-format did not run (${error.message}); on Debian or Ubuntu: apt-get install clang-format`)
}
process.exit(status ?? 1) // null where it did not run, or a signal ended it
