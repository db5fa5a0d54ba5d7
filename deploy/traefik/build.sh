#!/usr/bin/env bash
# Builds Traefik from its Go module, for the tests of this repository, and keeps it:
#
#   deploy/traefik/build.sh           builds, unless it is there, and prints where it is
#   deploy/traefik/build.sh -print    prints where it is or would be; status 1 where it is not
#
# The first time takes 12 minutes of processor time or more, some 180 MB for the program, 2.5 GB in Go's build cache, and
# its modules. It is kept in ${XDG_CACHE_HOME:-$HOME/.cache}/atoll/traefik-VERSION/. Nothing is fetched but Go
# modules. TRAEFIK_VERSION chooses another version; 3.7 needs more than this script does.
set -euo pipefail

version=${TRAEFIK_VERSION:-v3.6.12}
module=github.com/traefik/traefik/v3
cache=${XDG_CACHE_HOME:-$HOME/.cache}/atoll/traefik-$version
program=$cache/traefik

if [ "${1:-}" = -print ]; then
  echo "$program"
  [ -x "$program" ]
  exit
fi
if [ -x "$program" ]; then
  "$program" version >&2
  echo "$program"
  exit 0
fi
command -v go >/dev/null || { echo "Go is missing" >&2; exit 1; }

mkdir -p "$cache"
# Beside where it will be, so that the last step is a rename: nobody sees half a program.
work=$(mktemp -d "$cache/build.XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

echo "building Traefik $version: 12 minutes of processor time or more" >&2
mkdir "$work/empty" && cd "$work/empty" # outside of any module
source=$(go mod download -json "$module@$version" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",\{0,1\}$/\1/p')
[ -d "$source" ] || { echo "the Go module proxy did not give $module@$version" >&2; exit 1; }

# go install refuses a module with replace directives; built as a main module it is fine. The files of the
# module cache are read-only, so it is a copy. The web page of its dashboard is not in it, and not needed.
cp -r "$source" "$work/source"
chmod -R u+w "$work/source"
cd "$work/source"
# -buildvcs=false: the cache may be in a folder that somebody keeps in git.
CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=mod nice go build -trimpath -buildvcs=false \
  -ldflags "-s -w -X $module/pkg/version.Version=$version" -o "$work/traefik" ./cmd/traefik
"$work/traefik" version >&2
mv "$work/traefik" "$program"
echo "$program"
