#!/usr/bin/env bash
# Where a sequence stands is left out: a switchover may leave a gap.
# pg_dump through Banyan is what pg_dump gives directly, in three formats; what pg_restore then writes is on both sides.
source ../common.sh
dumped() { # what it is about, without what differs by place and time
    pg_dump --schema="$PGUSER" "$@" | sed -E '/^--|^\\(un)?restrict|^$|pg_catalog.setval/d' | md5sum
}
archive() {
    rm -rf "$BUILD/archive"
    pg_dump --schema="$PGUSER" --format="$1" --file="$BUILD/archive" && pg_restore --file=- "$BUILD/archive" | sed -E '/^--|^\\(un)?restrict|^$|pg_catalog.setval/d' | md5sum
}
restored() {
    psql -XAtq -c 'drop schema if exists back cascade; create schema back' &&
        pg_dump --schema="$PGUSER" --format=custom --file="$BUILD/back" &&
        pg_restore --file=- --no-owner "$BUILD/back" | sed -E "s/CREATE SCHEMA $PGUSER;//; s/\\b$PGUSER\\./back./g" | psql -XAtq -v ON_ERROR_STOP=1 -o /dev/null
}
contents() {
    psql -XAtq -c "select (select count(*) from back.item), (select md5(string_agg(i::text, ';' order by id)) from back.item i), (select md5(string_agg(k::text, ';' order by id)) from back.kinds k)"
}
for _ in 1 2 3; do
    check "clean" psql -XAtq -c 'truncate item, pair, kinds'
    check "filled" psql -XAtq -c "insert into item (id, name, doc, raw) select g, 'item ' || g, '{\"a\": 1}', '\\x0001ff' from generate_series(1, 500) g;
        insert into pair select g, 'b' || g from generate_series(1, 100) g; insert into kinds (id, num, r8, ta, tz) values (1, 'NaN', '-Infinity', '{a,NULL}', 'infinity')"
    check "plain" dumped
    check "inserts" dumped --inserts --rows-per-insert=50
    check "schema only" dumped --schema-only
    check "data only" dumped --data-only --column-inserts
    check "custom" archive custom
    check "tar" archive tar
    check "directory" archive directory
    check "restore" restored
    check "restored" contents
    compare "both sides after the restore"
    check "written there" psql -XAtq -c "insert into back.item (id) values (1000) returning id; delete from back.item where id < 100"
    check "dropped" psql -XAtq -c 'drop schema back cascade'
    [ $stage = 3 ] || pause
done
