#!/bin/sh
# Packs what scripts/build_gpu.sh has built into one archive, build/gpu.tar.xz: everything that the GPU run needs on a
# machine with an NVIDIA driver and nothing else, Node and the shared libraries of Debian packages included. There:
#   tar xf gpu.tar.xz && LD_LIBRARY_PATH=$PWD/lib bin/node build/js/bench/gpu/index.js --output gpu.json
set -eu
cd "$(dirname "$0")/.."

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/bin" "$stage/lib" "$stage/build/cuda/test" "$stage/build/cuda/bench/ops" "$stage/node_modules"
cp "$(readlink -f "$(command -v node)")" "$stage/bin/node"
cp build/cuda/commit "$stage/build/cuda/"
cp build/cuda/test/ops_*_test build/cuda/test/engine_exactness_test build/cuda/test/train_replay_test "$stage/build/cuda/test/"
cp build/cuda/bench/ops/bench_ops "$stage/build/cuda/bench/ops/"
cp -R build/js "$stage/build/js"
cp -RL node_modules/node-gyp-build "$stage/node_modules/"
addon=build/js/build/Release/mixture_of_recursions.node
for file in "$addon" build/cuda/test/ops_linear_test; do
  ldd "$file" | awk '/gtest/ && $3 ~ /^\// { print $3 }'
done | sort -u | while read -r library; do cp -L "$library" "$stage/lib/"; done
strip "$stage/bin/node" "$stage/lib"/* "$stage/$addon" "$stage/build/cuda/test"/* "$stage/build/cuda/bench/ops/bench_ops"
# Every test program holds the same kernels: a window wider than several of them keeps one copy.
tar -C "$stage" --sort=name -c . | xz -T1 --lzma2=preset=6,dict=256MiB > build/gpu.tar.xz
ls -l build/gpu.tar.xz
