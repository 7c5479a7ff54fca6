"""Is anything lost, undone, doubled or half there? SQL on both databases and the clients' own account.

Nothing of Banyan's is used, but for compare() of deploy/demo, which is SQL as well. Each check returns
a list of problems, as text. What is checked when: README.md.
"""
import bisect
import collections

import psycopg2

from workload import ACCOUNTS, KEYS, TOTAL

SETTINGS = "-c statement_timeout=20000 -c default_transaction_read_only=on"


def ask(cluster, database, sql):
    connection = psycopg2.connect(cluster.dsn(database), options=SETTINGS, application_name="faults-check")
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()
    finally:
        connection.close()


def lists(cluster, database):
    return dict(ask(cluster, database, "select key, items from list"))


def some(problems, most=6):
    return problems[:most] + ([f"... and {len(problems) - most} more"] if len(problems) > most else [])


def check_appends(history, found, receipts, side):
    """`found` {key: [token]} and `receipts` {token/n} against what the clients were told."""
    problems = []
    by_token = {txn.token: txn for txn in history if txn.keys or txn.receipts}
    counts = collections.Counter((key, token) for key, items in found.items() for token in items)
    for (key, token), count in counts.items():
        txn = by_token.get(token)
        if txn is None or key not in txn.keys:
            problems.append(f"{side}: {token!r} in list {key}, which nobody appended there")
        elif count > 1:
            problems.append(f"{side}: {token} is {count} times in list {key}")
    if set(found) != set(range(1, KEYS + 1)):
        problems.append(f"{side}: the lists are {sorted(found)}")
    for txn in by_token.values():
        if txn.kind == "read":
            continue
        here = [(key, txn.token) in counts for key in txn.keys]
        if txn.receipts:
            here += [f"{txn.token}/{n}" in receipts for n in range(3)]
        wanted = {"ok": all(here), "refused": not any(here), "unknown": all(here) or not any(here)}[txn.outcome]
        if not wanted:
            problems.append(f"{side}: of {txn.describe()} there are {here}")
    unknown = {token for token in receipts if token.rpartition("/")[0] not in by_token}
    if unknown:
        problems.append(f"{side}: receipts that nobody wrote: {sorted(unknown)[:5]}")
    for key, items in found.items():
        problems += check_order([by_token[token] for token in items if token in by_token], f"{side}, list {key}")
    return some(problems)


def check_order(txns, where):
    """What was acknowledged before another was begun stands before it."""
    earliest_end, problems = None, []
    for txn in reversed(txns):
        if earliest_end is not None and earliest_end.ended < txn.began:
            problems.append(f"{where}: {earliest_end.describe()} stands behind {txn.describe()}, which was begun after it was acknowledged")
        if txn.outcome == "ok" and (earliest_end is None or txn.ended < earliest_end.ended):
            earliest_end = txn
    return problems[:2]


def check_reads(reads, history, final):
    """What a client once read is never undone: each list it saw is the beginning of what is there at the end,
    and holds everything that was acknowledged before the read began."""
    problems = []
    acknowledged = collections.defaultdict(list)
    for txn in history:
        if txn.outcome == "ok" and txn.kind != "read":
            for key in txn.keys:
                acknowledged[key].append((txn.ended, txn.token))
    for each in acknowledged.values():
        each.sort()
    for read in reads:
        key = read.keys[0]
        if final.get(key, [])[:len(read.seen)] != read.seen:
            problems.append(f"undone: {read.describe()} saw {read.seen[-5:]} at the end of list {key}, which is not how it begins now")
        before = acknowledged[key][:bisect.bisect_left(acknowledged[key], (read.began, ""))]
        missing = {token for _, token in before} - set(read.seen)
        if missing:
            problems.append(f"stale: {read.describe()} did not see {sorted(missing)[:5]}, acknowledged before it began")
    return some(problems)


def check_bank(cluster, database, side):
    found = ask(cluster, database, "select coalesce(sum(balance), 0)::bigint, count(*) from account")[0]
    return [] if found == (TOTAL, ACCOUNTS) else [f"{side}: the sum is {found[0]} in {found[1]} accounts, not {TOTAL} in {ACCOUNTS}"]


def check_side(cluster, database, clients, side):
    receipts = {token for token, in ask(cluster, database, "select token from receipt")}
    return check_appends(clients.history, lists(cluster, database), receipts, side) + check_bank(cluster, database, side)


def leftovers(cluster, database, side, nobody):
    """Backends in a transaction, locks on tables, prepared transactions; with `nobody` any backend at all."""
    rows = ask(cluster, "postgres", f"""
        select 'backend ' || pid || ' of ' || application_name || ' is ' || coalesce(state, '?') || ': ' || left(query, 60) from pg_stat_activity
        where datname = '{database}' and application_name <> 'faults-check'
          and ({nobody} or state like 'idle in transaction%' or (state = 'active' and xact_start < clock_timestamp() - interval '2 s'))
        union all select 'lock ' || mode || ' of process ' || l.pid || ' on ' || l.relation from pg_locks l join pg_database d on d.oid = l.database
        where d.datname = '{database}' and l.relation >= 16384 and l.granted and not exists (
          select 1 from pg_stat_activity a where a.pid = l.pid and a.xact_start > clock_timestamp() - interval '2 s')
        union all select 'prepared transaction ' || gid from pg_prepared_xacts where database = '{database}'""")
    return [f"{side}: {row[0]}" for row in rows]
