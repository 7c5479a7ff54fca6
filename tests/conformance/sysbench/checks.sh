#!/usr/bin/env bash
# sysbench's OLTP workloads: a fixed number of events, with prepared statements and without; no error is ignored.
source ../common.sh
bench() {
    local workload=$1 text
    shift
    text=$(sysbench "$workload" --db-driver=pgsql --pgsql-host="$PGHOST" --pgsql-port="$PGPORT" --pgsql-user="$PGUSER" --pgsql-db="$PGDATABASE" \
        --tables=2 --table-size=2000 --threads=2 --time=0 --rand-seed=7 "$@" run 2>&1) || { echo "$text" | tail -5; return 1; }
    echo "$text" | sed -nE 's/^ *(read|write|total|transactions|ignored errors|reconnects): *([0-9]+).*/\1 \2/p' | tr '\n' ' '
}
for _ in 1 2 3; do
    check "read only" bench oltp_read_only --events=40
    check "point select" bench oltp_point_select --events=200
    # One thread: two would now and then wait for each other in a deadlock, which sysbench runs again.
    check "read and write" bench oltp_read_write --events=60 --threads=1
    check "read and write, not prepared" bench oltp_read_write --events=30 --threads=1 --db-ps-mode=disable
    check "update by index" bench oltp_update_index --events=60
    check "update of others" bench oltp_update_non_index --events=60
    check "rows" psql -XAtq -c 'select (select count(*) from sbtest1), (select count(*) from sbtest2)'
    [ $stage = 3 ] || pause
done
