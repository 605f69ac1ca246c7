#!/bin/sh
# Builds the addon that the package carries, prebuilds/linux-x64: against glibc 2.31, stripped, with its checksum beside
# it. Arguments go to cmake-js, as in `sh scripts/prebuild.sh --CDMOR_CUDA=OFF`.
set -eu
cd "$(dirname "$0")/.."
out=$PWD/build/prebuilt/linux-x64
sysroot=$PWD/build/prebuilt/sysroot-x64
# With "glibc" in its name, node-gyp-build does not offer it to a system with musl.
name=mixture-of-recursions.glibc.node

sh scripts/prebuilt/sysroot.sh amd64 "$sysroot"
npx --no-install cmake-js configure --out "$out" \
  --CDMOR_SYSROOT="$sysroot" --CDCMAKE_TOOLCHAIN_FILE="$PWD/scripts/prebuilt/toolchain.cmake" "$@"
npx --no-install cmake-js build --out "$out" --parallel 4
rm -rf prebuilds/linux-x64
mkdir -p prebuilds/linux-x64
cd prebuilds/linux-x64
strip -o $name "$out/Release/mixture_of_recursions.node"
sha256sum $name > $name.sha256
ls -l $name
