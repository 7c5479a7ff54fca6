#!/usr/bin/env bash
# Alembic's migrations up and down, one by one, through Banyan: after each step both sides have the same schema and rows.
source ../common.sh
run() { alembic -c alembic.ini "$@" 2>&1; }
rows() { psql -XAtq -c 'select (select count(*) from customer), (select count(*) from invoice), (select sum(total) from invoice)'; }
for _ in 1 2 3; do
    for revision in 0001 0002 0003; do
        check "up to $revision" run upgrade $revision
        check "rows at $revision" rows
        compare "both sides at $revision"
    done
    check "current" run current
    check "written" psql -XAtq -c "insert into invoice (id, customer_id, total) values (1000, 7, 1.26) returning total; update customer set level = 'middle' where id < 10; delete from invoice where id > 190"
    for revision in 0002 0001 base; do
        check "down to $revision" run downgrade $revision
        compare "both sides below $revision"
    done
    [ $stage = 3 ] || pause
done
