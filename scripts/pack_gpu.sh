#!/bin/sh
# Packs what scripts/build_gpu.sh has built into one archive, build/gpu.tar.xz: everything that the GPU run needs on a
# machine with an NVIDIA driver and nothing else, Node and the shared libraries of Debian packages included. How to unpack
# and use it: docs/cuda.md.
set -eu
cd "$(dirname "$0")/.."
most_mib=45

# The shell sees only how the last command of a pipe ends: what may fail writes to a file of its own here.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$work/stage
mkdir -p "$stage/bin" "$stage/lib" "$stage/build/cuda"
cp "$(readlink -f "$(command -v node)")" "$stage/bin/node"
# The paths have no spaces: CMake makes them of the names of tests.
(cd build/cuda && cp --parents commit gpu_tests.txt $(cat gpu_tests.txt) bench/ops/bench_ops bench/gpu/gpu_probes bench/gpu/gpu_tune "$stage/build/cuda")
cp -R build/js "$stage/build/js"
rm -rf "$stage/build/js/test"
cp --parents bench/baselines/pytorch_llama.py bench/baselines/pytorch_train_gpu.py "$stage"
# The packages that a list of devices loads are those that training and generation load.
node -e "require('./build/js/lib/index.js').devices(); console.log(Object.keys(require.cache).join('\n'))" > "$work/loaded"
sed -nE 's,^.*/node_modules/((@[^/]+/)?[^/]+)/.*$,\1,p' "$work/loaded" | sort -u | while read -r package; do
  mkdir -p "$stage/node_modules/$(dirname "$package")"
  cp -RL "node_modules/$package" "$stage/node_modules/$package"
done
addon=build/js/build/Release/mixture_of_recursions.node
find "$stage/build" -type f -perm -u+x -exec ldd {} \; > "$work/libraries"
awk '/gtest/ && $3 ~ /^\// { print $3 }' "$work/libraries" | sort -u |
  while read -r library; do cp -L "$library" "$stage/lib/"; done
find "$stage/bin" "$stage/lib" "$stage/build/cuda" "$stage/$addon" -type f \( -perm -u+x -o -name '*.so*' -o -name '*.node' \) \
  -exec strip {} +
# Every test program holds the same kernels: a window wider than several of them keeps one copy.
tar -C "$stage" --sort=name -cf "$work/gpu.tar" .
xz -T1 --lzma2=preset=6,dict=256MiB "$work/gpu.tar"
size=$(stat -c %s "$work/gpu.tar.xz")
echo "build/gpu.tar.xz: $((size / 1048576)) MiB"
if [ "$size" -gt $((most_mib * 1048576)) ]; then
  echo "it would be larger than $most_mib MiB: leave test programs out, or build for one architecture" >&2
  exit 1
fi
mv "$work/gpu.tar.xz" build/gpu.tar.xz
