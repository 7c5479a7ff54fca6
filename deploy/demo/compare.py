#!/usr/bin/python3
"""Compares tables of two PostgreSQL databases row for row, by SQL on each side, without Banyan.

    compare.py SOURCE_DSN TARGET_DSN [--settle SECONDS] [TABLE ...]

Rows are hashed as text under equal settings and summed per bucket of the key; buckets that differ
are fetched key by key. Under live load a key may differ for the moment between the two commits, so
with --settle the differing keys alone are read again until each has been seen equal, or the time is
up. A table without a primary key is compared as a bag of rows, and cannot settle.
"""
import argparse
import dataclasses
import sys
import threading
import time

import psycopg2

BUCKETS = 1024
SETTINGS = (
    "-c search_path=pg_catalog -c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC "
    "-c extra_float_digits=3 -c bytea_output=hex -c lc_monetary=C -c statement_timeout=0 "
    "-c row_security=off -c default_transaction_read_only=on"
)


@dataclasses.dataclass
class Comparison:
    table: str
    source_rows: int
    target_rows: int
    differing: list  # printable keys; bounded by LIMIT
    differing_count: int
    settled: int  # keys that differed at first and were seen equal later

    @property
    def equal(self):
        return self.differing_count == 0


LIMIT = 20


def quote(name):
    return '"' + name.replace('"', '""') + '"'


def connect(dsn):
    connection = psycopg2.connect(dsn, options=SETTINGS, application_name="banyan_compare")
    connection.autocommit = True
    return connection


def query(connection, sql, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def list_tables(connection):
    """Every ordinary or partitioned table of the application, as schema.table, sorted."""
    return [row[0] for row in query(connection, """
        select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
          and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'banyan', '_banyan')
        order by 1""")]


def both(function, source, target):
    """Runs function(connection) on both sides at the same time; returns both results."""
    results, errors = [None, None], []

    def run(index, connection):
        try:
            results[index] = function(connection)
        except Exception as error:  # handed to the caller below
            errors.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate((source, target))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


class Shape:
    """A table's columns and key as SQL, learnt from the source."""

    def __init__(self, connection, table):
        schema, name = table.split(".", 1)
        self.table = f"{quote(schema)}.{quote(name)}"
        columns = query(connection, """
            select a.attname, format_type(a.atttypid, a.atttypmod), coalesce(array_position(i.indkey::int2[], a.attnum), -1)
            from pg_attribute a left join pg_index i on i.indrelid = a.attrelid and i.indisprimary
            where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum""",
                        (self.table,))
        if not columns:
            raise ValueError(f"{table} has no columns")
        self.row = "row(" + ", ".join("t." + quote(column[0]) for column in columns) + ")::text"
        keys = sorted((column for column in columns if column[2] >= 0), key=lambda column: column[2])
        self.keys = [(quote(name), kind) for name, kind, _ in keys]
        self.key = ("row(" + ", ".join("t." + name for name, _ in self.keys) + ")::text") if keys else self.row
        self.hash = f"hashtextextended({self.row}, 0)"
        self.bucket = f"(hashtextextended({self.key}, 1) & {BUCKETS - 1})"

    def buckets(self, connection):
        return {row[0]: row[1:] for row in query(
            connection, f"select {self.bucket}, count(*), sum({self.hash}::numeric) from {self.table} t group by 1")}

    def rows_in(self, connection, buckets):
        """{key as a tuple of texts: hash} of these buckets; without a key {row: number of times}."""
        if not self.keys:
            return {(row[0],): row[1] for row in query(
                connection, f"select {self.row}, count(*) from {self.table} t where {self.bucket} = any(%s) group by 1",
                (buckets,))}
        names = ", ".join(f"t.{name}::text" for name, _ in self.keys)
        return {row[:-1]: row[-1] for row in query(
            connection, f"select {names}, {self.hash} from {self.table} t where {self.bucket} = any(%s)", (buckets,))}

    def rows_by_key(self, connection, keys):
        arrays = ", ".join("%s::text[]" for _ in self.keys)
        aliases = [f"k{index}" for index in range(len(self.keys))]
        join = " and ".join(f"t.{name} = u.{alias}::{kind}" for (name, kind), alias in zip(self.keys, aliases))
        return {row[:-1]: row[-1] for row in query(
            connection, f"select {', '.join('u.' + alias for alias in aliases)}, {self.hash} "
            f"from unnest({arrays}) u({', '.join(aliases)}) join {self.table} t on {join}",
            [list(column) for column in zip(*keys)])}


def compare_table(source, target, table, settle=0.0):
    shape = Shape(source, table)
    source_buckets, target_buckets = both(shape.buckets, source, target)
    unequal = sorted(bucket for bucket in set(source_buckets) | set(target_buckets)
                     if source_buckets.get(bucket) != target_buckets.get(bucket))
    same = sum(counts[0] for bucket, counts in source_buckets.items() if bucket not in set(unequal))
    source_rows, target_rows = {}, {}
    if unequal:
        source_rows, target_rows = both(lambda connection: shape.rows_in(connection, unequal), source, target)
    differing = {key for key in set(source_rows) | set(target_rows) if source_rows.get(key) != target_rows.get(key)}
    first = len(differing)
    deadline = time.monotonic() + settle
    while differing and shape.keys and settle:
        keys = list(differing)
        found_source, found_target = both(lambda connection: shape.rows_by_key(connection, keys), source, target)
        for key in keys:
            for rows, found in ((source_rows, found_source), (target_rows, found_target)):
                rows.pop(key, None)
                if key in found:
                    rows[key] = found[key]
        differing = {key for key in keys if source_rows.get(key) != target_rows.get(key)}
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    if not shape.keys:
        counts = [sum(rows.values()) for rows in (source_rows, target_rows)]
    else:
        counts = [len(source_rows), len(target_rows)]
    sample = [", ".join(map(str, key))[:200] for key in sorted(differing, key=str)[:LIMIT]]
    return Comparison(table, same + counts[0], same + counts[1], sample, len(differing), first - len(differing))


def compare(source_dsn, target_dsn, tables=None, settle=0.0):
    """A Comparison for each table (default: every table of the source)."""
    source, target = connect(source_dsn), connect(target_dsn)
    try:
        return [compare_table(source, target, table, settle) for table in tables or list_tables(source)]
    finally:
        source.close()
        target.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("tables", nargs="*")
    parser.add_argument("--settle", type=float, default=0.0)
    arguments = parser.parse_args()
    results = compare(arguments.source, arguments.target, arguments.tables or None, arguments.settle)
    for result in results:
        print(f"{result.table:32} {result.source_rows:10} {result.target_rows:10} "
              f"{'equal' if result.equal else f'{result.differing_count} keys differ: ' + '; '.join(result.differing)}")
    return 0 if all(result.equal for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
