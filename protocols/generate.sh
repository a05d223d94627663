#!/bin/sh
# Regenerates the Go of every schema. Run through `go generate ./...`.
set -eu
cd "$(dirname "$0")/.."
command -v capnp >/dev/null || { echo "protocols: the capnp compiler is missing; install Debian's package capnproto" >&2; exit 1; }
bin=$(mktemp -d); trap 'rm -rf "$bin"' EXIT
go build -o "$bin/capnpc-go" capnproto.org/go/capnp/v3/capnpc-go
std=$(go list -m -f '{{.Dir}}' capnproto.org/go/capnp/v3)/std
PATH="$bin:$PATH" capnp compile --no-standard-import -I"$std" -I. -ogo protocols/*/v1/*.capnp
