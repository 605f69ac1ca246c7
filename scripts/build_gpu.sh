#!/bin/sh
# Builds what a machine with an NVIDIA driver and Node needs to run `node build/js/bench/gpu/index.js` from this folder: the
# addon, the tests and the bench programs under build/cuda, and the TypeScript under build/js. Needs nvcc, Ninja and
# GoogleTest, and no GPU. The argument says for which GPUs, as CMake names them; without one it is Hopper alone.
set -eu
cd "$(dirname "$0")/.."
architectures=${1:-90a-real}

cmake --preset cuda -DMOR_CUDA_ARCHITECTURES="$architectures"
cmake --build --preset cuda --target gpu_tests bench_ops gpu_probes gpu_tune --parallel "$(nproc)"
git rev-parse HEAD > build/cuda/commit
# In a folder of its own, and configured each time: a build alone would keep the options of an earlier one.
addon="--out build/addon_cuda --CDMOR_CUDA=ON --CDMOR_CUDA_ARCHITECTURES=$architectures"
npx cmake-js configure $addon
npx cmake-js build $addon --parallel "$(nproc)"
rm -rf build/js
npx tsc --noEmit false --outDir build/js --rootDir .
mkdir -p build/js/build/Release
cp build/addon_cuda/Release/mixture_of_recursions.node build/js/build/Release/
node -e "
  const gpu = require('./build/js/lib/index.js').devices()[1]
  if (gpu.code === 'DEVICE_UNAVAILABLE') throw new Error(gpu.reason)"
