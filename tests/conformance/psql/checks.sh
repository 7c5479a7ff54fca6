#!/usr/bin/env bash
# psql as it is used in scripts: one session, -f, all output kept. See checks.sql.
set -uo pipefail
script=$(mktemp "$BUILD/script.XXXXXX")
trap 'rm -f "$script"' EXIT
for stage in 1 2 3; do
    # The name of each check is a comment line in these files.
    sed -E "s/^-- (.*)\$/\\\\echo $stage.\1:/" "$COMMON" checks.sql
    if [ $stage != 3 ]; then printf '%s\n' '\! echo PAUSE; read -r line'; fi
done >"$script"
# Line by line, so that psql's output and that of its shell commands keep their order.
stdbuf -oL psql -X --no-psqlrc -At -f "$script" 2>&1 | sed -uE "s#^psql:$script:[0-9]+: ##; s#$script#script#; s/ with PID [0-9]+\.$//; s/database \"$PGDATABASE\"/the database/"
