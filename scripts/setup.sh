#!/usr/bin/env bash
# Checks that what the build and the tests need is there, and installs what is
# missing from Debian's packages. Does nothing, and needs no network, when all is
# there. Go and a C compiler are the user's to bring.
set -euo pipefail

# command that must be on the PATH, Debian package that has it
needs=(
  "capnp capnproto" # compiles the schemas; a test regenerates them and compares
)

die() {
  echo "setup: $*" >&2
  exit 1
}

command -v "${GO:-go}" >/dev/null || die "Go is missing; install Go 1.26 or newer from https://go.dev/dl"
command -v "${CC:-gcc}" >/dev/null || die "a C compiler is missing, which the race detector needs; install Debian's packages gcc and libc6-dev"

missing=()
for need in "${needs[@]}"; do
  read -r command package <<<"$need"
  command -v "$command" >/dev/null || missing+=("$package")
done
((${#missing[@]})) || exit 0

command -v apt-get >/dev/null || die "missing: ${missing[*]} (names of Debian's packages); this system has no apt-get, install them its own way"

root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || die "missing: ${missing[*]}; run as root: apt-get install ${missing[*]}"
  root=(sudo)
  [[ -t 0 ]] || root+=(--non-interactive)
fi

echo "setup: installing Debian's ${missing[*]} with ${root[*]:+${root[*]} }apt-get"
install=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "${missing[@]}")
"${install[@]}" </dev/null >/dev/null 2>&1 || {
  echo "setup: the package lists are missing or old; updating them"
  "${root[@]}" apt-get -qq update </dev/null
  "${install[@]}" </dev/null
}
