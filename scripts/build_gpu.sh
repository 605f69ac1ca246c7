#!/bin/sh
# Builds what a machine with an NVIDIA driver and Node needs to run `node build/js/bench/gpu/index.js` from this folder:
# the addon, the op tests and bench_ops under build/cuda, and the TypeScript under build/js. Needs nvcc, Ninja and GoogleTest, and no GPU.
set -eu
cd "$(dirname "$0")/.."

cmake --preset cuda
cmake --build --preset cuda
git rev-parse HEAD > build/cuda/commit
npm run build:native -- --CDMOR_CUDA=ON
rm -rf build/js
npx tsc --noEmit false --outDir build/js --rootDir .
mkdir -p build/js/build/Release
cp build/Release/mixture_of_recursions.node build/js/build/Release/
