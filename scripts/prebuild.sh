#!/bin/sh
# Builds the addons that the package carries: against glibc 2.31, stripped, each with its checksum beside it.
#   sh scripts/prebuild.sh [x64|arm64] [options of cmake-js for x64, such as --CDMOR_CUDA=OFF]
# Without a processor it builds for both. The addon for arm64 has the CPU device only; Debian's package
# g++-aarch64-linux-gnu compiles it.
set -eu
cd "$(dirname "$0")/.."
# With "glibc" in its name, node-gyp-build does not offer it to a system with musl.
name=mixture-of-recursions.glibc.node

# prebuild <Node's name of the processor> <Debian's name> <prefix of the binary tools> [options of cmake-js]
prebuild() {
  out=$PWD/build/prebuilt/linux-$1
  sysroot=$PWD/build/prebuilt/sysroot-$1
  strip=$3strip
  folder=prebuilds/linux-$1
  sh scripts/prebuilt/sysroot.sh "$2" "$sysroot"
  shift 3
  # CMake would keep the options of an earlier run.
  rm -f "$out/CMakeCache.txt"
  npx --no-install cmake-js configure --out "$out" \
    --CDMOR_SYSROOT="$sysroot" --CDCMAKE_TOOLCHAIN_FILE="$PWD/scripts/prebuilt/toolchain.cmake" "$@"
  npx --no-install cmake-js build --out "$out" --parallel 4
  # The folder is there with all that belongs into it, or not at all.
  rm -rf "$folder" "$folder.partial"
  mkdir -p "$folder.partial"
  "$strip" -o "$folder.partial/$name" "$out/Release/mixture_of_recursions.node"
  (cd "$folder.partial" && sha256sum $name > $name.sha256 && ls -l $name)
  mv "$folder.partial" "$folder"
}

processor=both
case ${1-} in
  x64 | arm64) processor=$1; shift ;;
esac
if [ "$processor" != arm64 ]; then prebuild x64 amd64 "" "$@"; fi
if [ "$processor" != x64 ]; then
  prebuild arm64 arm64 aarch64-linux-gnu- --CDMOR_CUDA=OFF --CDMOR_CROSS="$PWD/scripts/arm64/toolchain.cmake"
fi
