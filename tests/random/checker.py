"""Are both sides equal? By psql and SQL alone: nothing here is Banyan's, and nothing asks it."""
import subprocess

MARK = "==> "
SETTINGS = ("-c extra_float_digits=3 -c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC -c bytea_output=hex -c row_security=off "
            "-c client_min_messages=warning -c statement_timeout=60000")
# Every table with rows of its own, as: the table that is captured for it (its partition's root), itself.
TABLES = """
select quote_ident(rn.nspname) || '.' || quote_ident(r.relname), quote_ident(n.nspname) || '.' || quote_ident(c.relname)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
join pg_class r on r.oid = coalesce(case when c.relispartition then pg_partition_root(c.oid) end, c.oid)
join pg_namespace rn on rn.oid = r.relnamespace
where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'banyan')
order by 2
"""
SEQUENCES = """
select s.seqrelid::regclass, s.seqincrement, coalesce(pg_sequence_last_value(s.seqrelid), 0)
from pg_sequence s join pg_class c on c.oid = s.seqrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname not in ('banyan') order by 1
"""


def psql(dsn, script):
    done = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", f"{dsn} options='{SETTINGS}'", "-f", "-"],
                          input=script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"psql: {done.stderr.strip()[:500]}")
    return done.stdout


def tables(dsn):
    """[(captured table, table)] of one side, both as "schema.name"."""
    return [tuple(line.split("\t")) for line in psql(dsn, TABLES).splitlines()]


def contents(dsn, names):
    """{table: its rows as COPY's text, sorted}. ONLY: what inherits from it is listed for itself."""
    script = "\n".join(f"\\echo {MARK}{name}\ncopy (select * from only {name} t order by t::text collate \"C\") to stdout;" for name in names)
    found, rows = {}, None
    for line in psql(dsn, script).split("\n"):
        if line.startswith(MARK):
            rows = found[line[len(MARK):]] = []
        elif rows is not None:
            rows.append(line)
    return found


def differences(source, target, wanted):
    """What differs between the databases in the captured tables of `wanted`: [text], empty if nothing does."""
    problems = []
    there = {side: {name: root for root, name in tables(dsn) if root in wanted} for side, dsn in (("source", source), ("target", target))}
    for name in sorted(set(there["source"]) ^ set(there["target"])):
        problems.append(f"{name} is missing on the {'target' if name in there['source'] else 'source'}")
    names = sorted(set(there["source"]) & set(there["target"]))
    left, right = contents(source, names), contents(target, names)
    for name in names:
        if left[name] != right[name]:
            problems.append(f"{name}: {difference(left[name], right[name])}")
    return problems


def difference(left, right):
    remaining = list(right)
    only_left = []
    for row in left:
        if row in remaining:
            remaining.remove(row)
        else:
            only_left.append(row)
    show = lambda rows: [row[:150] for row in rows[:3]]  # noqa: E731
    return f"{len(only_left)} rows on the source only {show(only_left)}, {len(remaining)} on the target only {show(remaining)}"


def sequences_behind(ahead, behind):
    """Sequences of the new primary (`ahead`) that would hand out again what the other side (`behind`) has handed out."""
    values = {}
    for dsn in (ahead, behind):
        for line in psql(dsn, SEQUENCES).splitlines():
            name, increment, value = line.split("\t")
            values.setdefault(name, []).append(int(value) * (1 if int(increment) > 0 else -1))
    return [f"sequence {name}: {pair[0]} after {pair[1]}" for name, pair in values.items() if len(pair) == 2 and pair[0] < pair[1]]


FOREIGN_KEYS = """
select format('select %L, count(*) from %s c where %s and not exists (select 1 from %s p where %s) having count(*) > 0;',
              f.conname || ' of ' || f.conrelid::regclass, f.conrelid::regclass,
              (select string_agg(format('c.%I is not null', a.attname), ' and ') from unnest(f.conkey) k join pg_attribute a
               on a.attrelid = f.conrelid and a.attnum = k), f.confrelid::regclass,
              (select string_agg(format('p.%I = c.%I', pa.attname, ca.attname), ' and ') from unnest(f.conkey, f.confkey) u(c, p)
               join pg_attribute ca on ca.attrelid = f.conrelid and ca.attnum = u.c
               join pg_attribute pa on pa.attrelid = f.confrelid and pa.attnum = u.p))
from pg_constraint f where f.contype = 'f' and f.conparentid = 0
"""


def orphans(dsn):
    """Foreign keys that do not hold: Banyan writes around them, so a new primary may have what no primary would take."""
    return [line.replace("\t", ": rows without a parent: ") for line in psql(dsn, psql(dsn, FOREIGN_KEYS)).splitlines()]
