#!/bin/sh
# Everything that a fresh Debian or Ubuntu machine with Node 20 needs to run this package from a checkout: the npm packages,
# the TypeScript, and the native addon, which is built unless there is a prebuilt one (npm run package:native) and none that
# was built here, which goes before it.
# Knows nothing of the demo; running it again is harmless.
set -eu
cd "$(dirname "$0")/.."

if ! node -e 'const [major, minor] = process.versions.node.split("."); process.exit(major * 100 + +minor >= 2004 ? 0 : 1)'; then
  echo "setup: Node 20.4 or newer is needed, and 'node --version' says: $(node --version 2>&1 || true)" >&2
  exit 1
fi

if [ -e "prebuilds/$(node -p 'process.platform + "-" + process.arch')" ] && [ ! -e build/Release ]; then
  npm ci --include=dev
  npm run build:ts
  exit
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then as_root=sudo; fi
$as_root apt-get update
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
  build-essential cmake

npm ci --include=dev
npm run build
