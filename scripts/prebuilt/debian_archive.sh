#!/bin/sh
# Prints the address of the Debian archive that apt on this machine uses.
set -eu
archive=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
  awk '$1 !~ /security/ && $2 == "main" { print $1; exit }')
if [ -z "$archive" ]; then
  echo "apt on this machine knows no Debian archive; run apt-get update, and see /etc/apt/sources.list.d" >&2
  exit 1
fi
echo "$archive"
