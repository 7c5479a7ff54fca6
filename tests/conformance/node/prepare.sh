#!/usr/bin/env bash
# prepare.sh DIR: the packages of package-lock.json into DIR/node_modules (again only if that file changed), and the scripts beside them.
set -euo pipefail
exec 9>"$1/lock"
flock 9
if ! cmp -s package-lock.json "$1/installed.json" || [ ! -d "$1/node_modules" ]; then
    cp package.json package-lock.json "$1/"
    (cd "$1" && npm ci --no-audit --no-fund --ignore-scripts)
    cp package-lock.json "$1/installed.json"
fi
cp ./*.mjs "$1/"
