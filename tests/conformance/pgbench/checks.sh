#!/usr/bin/env bash
# pgbench in its three protocols, with four clients and with a pipeline: nothing fails, and the books balance.
source ../common.sh
summary() {
    sed -nE 's/^(transaction type|number of transactions actually processed|number of failed transactions|ERROR|pgbench: error).*/&/p' |
        grep -v 'tps' | tr '\n' ' '
}
bench() { pgbench -n -c 4 -j 2 --random-seed=7 "$@" 2>&1 | summary; }
pipelined() { # extended protocol, all of a transaction in one packet
    printf '%s\n' '\startpipeline' '\set aid random(1, 10000)' 'begin;' 'update pgbench_accounts set abalance = abalance + 1 where aid = :aid;' \
        'select abalance from pgbench_accounts where aid = :aid;' 'update pgbench_accounts set abalance = abalance - 1 where aid = :aid;' 'end;' '\endpipeline' >"$BUILD/pipeline.sql"
    bench -M "$1" -t 25 -f "$BUILD/pipeline.sql" | sed "s#$BUILD/##"
}
for _ in 1 2 3; do
    check history psql -XAtq -c 'delete from pgbench_history'
    for mode in simple extended prepared; do
        check "$mode" bench -M $mode -t 40
        check "$mode, simple update" bench -M $mode -N -t 20
        check "$mode, select only" bench -M $mode -S -t 50
    done
    check "pipeline, extended" pipelined extended
    check "pipeline, prepared" pipelined prepared
    check "reconnecting" bench -C -S -t 5
    # -N changes accounts alone.
    check "tellers and branches" psql -XAtq -c 'select (select sum(tbalance) from pgbench_tellers) = (select sum(bbalance) from pgbench_branches), (select count(*) from pgbench_history)'
    check "accounts" psql -XAtq -c 'select count(*) from pgbench_accounts'
    [ $stage = 3 ] || pause
done
