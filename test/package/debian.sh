#!/bin/sh
# Installs the packed package as test/package/install.mjs does, and then uses it in a fresh Debian 11 and a fresh Debian 12
# that have nothing but their base system and this machine's Node. Needs root that may mount, debootstrap, and prebuilds/.
set -eu
cd "$(dirname "$0")/../.."
archive=$(sh scripts/prebuilt/debian_archive.sh)
stage=$(mktemp -d)
trap 'for proc in "$stage"/*/proc; do umount "$proc" 2>/dev/null || true; done; rm -rf --one-file-system "$stage"' EXIT

node test/package/install.mjs --keep "$stage/project"
for release in bullseye bookworm; do
  system=$stage/$release
  debootstrap --foreign --variant=minbase "$release" "$system" "$archive" > "$stage/$release.log" 2>&1 ||
    { tail "$stage/$release.log" >&2; exit 1; }
  rm -f "$system/proc"  # packages are unpacked and not set up, which takes half the time and leaves a link here
  mkdir "$system/proc"
  mount --bind /proc "$system/proc"
  cp "$(readlink -f "$(command -v node)")" "$system/usr/bin/node"
  cp -R "$stage/project" "$system/project"
  echo "$release: $(chroot "$system" ldd --version | head -n 1)"
  chroot "$system" sh -c '
    set -eu
    cd /project
    for program in gcc g++ cmake python3 npm; do
      if command -v $program; then echo "there is a $program, which this test must not need" >&2; exit 1; fi
    done
    node use.cjs
    node use.mjs
    node cycles.cjs 5
    node_modules/.bin/mor doctor'
done
