#!/bin/sh
# Makes a folder with the headers and libraries of glibc 2.31 (Debian 11) that the prebuilt addon is compiled against, so
# that it also loads on older systems than this one. The packages come from the archive that apt on this machine uses.
#   sh scripts/prebuilt/sysroot.sh <amd64|arm64> <folder>
set -eu
architecture=$1
folder=$2
release=bullseye
packages="libc6 libc6-dev linux-libc-dev libgcc-10-dev"

if [ -e "$folder/complete" ]; then exit 0; fi
archive=$(sh "$(dirname "$0")/debian_archive.sh")

rm -rf "$folder"
mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
folder=$(cd "$folder" && pwd)
cd "$folder/apt"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $release main" > sources.list
# A configuration of its own: nothing that is installed on this machine changes, and no architecture is added to it.
apt() {
  apt-get -qq -o Dir::State::lists="$PWD/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$PWD/cache" \
    -o Dir::Etc::sourcelist="$PWD/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences=/dev/null \
    -o Dir::Etc::preferencesparts=/dev/null -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" \
    -o APT::Sandbox::User=root "$@"
}
apt update
apt download $packages
for package in *.deb; do dpkg-deb --extract "$package" "$folder"; done
cd "$folder"
rm -rf apt
# Of the older compiler only its unwinder is wanted; the rest of its library does not know newer processors.
find usr/lib/gcc ! -type d ! -name libgcc_eh.a -delete
# The links to libraries are absolute and would lead out of this folder.
find . -type l | while read -r link; do
  target=$(readlink "$link")
  case $target in /*) ln -sfn "$(realpath --no-symlinks --relative-to="$(dirname "$link")" "./$target")" "$link" ;; esac
done
touch complete
