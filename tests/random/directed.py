"""Short scenarios that walk into one race each, for the mutants whose windows luck alone seldom hits.

Windows are widened in SQL where that is possible: a deferred trigger that sleeps makes the mirror's COMMIT slow, for rows with a
certain n; a standby that does not exist holds up the primary's, for transactions that ask for one.
"""
import random

SLOW = ("create function slow() returns trigger language plpgsql as "
        "$$ begin perform pg_sleep(tg_argv[0]::float8); return null; end $$")


def scenario(schema, rows, script, **backfill):
    tables = ["create table receipts (client int, number int, at timestamptz default clock_timestamp(), primary key (client, number))",
              "create table zz_brake (id int primary key, filler text)"]
    return {"seed": 0, "features": [], "schema": [*schema, *tables],
            "rows": [*rows, "insert into zz_brake select g, repeat('x', 50) from generate_series(1, 4000) g"], "script": script,
            "banyan": {"backfill": {"max_chunk_rows": 150, "chunk_time_ms": 500, **backfill}}}


PLAIN = "create table t (id int primary key, n int default 0, code int unique)"
FILLED = "insert into t select g, 0, g from generate_series(1, 40) g"


def slow_commit(table, seconds):
    """Banyan's COMMIT of rows with n = 900 takes that long on the target."""
    return {"side": "target", "sql": f"{SLOW}; create constraint trigger slow after insert or update on {table} deferrable initially deferred "
            f"for each row when (new.n = 900) execute function slow({seconds}); alter table {table} enable replica trigger slow"}


def say(client, *statements):
    return [{"c": client, "do": "simple", "sql": sql} for sql in statements]


def held(client, sql):
    """A transaction whose COMMIT waits while {"o": "hold_commits"} is on."""
    return say(client, "begin", "set local synchronous_commit = on", sql, "commit")


def to(phase):
    return [{"o": "to", "phase": phase}, {"o": "wait"}]


STEPPED, FREE = {"o": "pace", "free": False}, {"o": "pace", "free": True}
# Mirroring, everything copied and verified.
MIRRORING = [FREE, *to("DUAL_WRITE"), {"o": "brake"}, *to("DUAL_READ"), {"o": "settle"}, STEPPED]
SETTLE = [{"o": "sleep", "ms": 1200}, {"o": "settle"}]


def delete_before_the_insert_is_there(_):
    """R11: the mirror's COMMIT of an insert is slow, and the row is deleted meanwhile."""
    script = [*MIRRORING]
    for number in range(100, 104):
        script += say(0, f"insert into t (id, n) values ({number}, 900)") + say(1, f"delete from t where id = {number}")
    return scenario([PLAIN, slow_commit("t", 0.4)], [FILLED], script + SETTLE)


def deletes_in_flight(_):
    """R2: rows inserted on both sides, and deleted by transactions whose COMMIT takes until the chunk that has read them waits."""
    script = [FREE, {"o": "hold_commits"}, *to("DUAL_WRITE")]
    for client in range(8):
        number = 1501 + 2 * client
        script += say(client, f"insert into t (id, n) values ({number}, 1) on conflict do nothing") + held(client, f"delete from t where id = {number}")
    return scenario([PLAIN], ["insert into t select 2 * g from generate_series(1, 900) g"],
                    [*script, {"o": "sleep", "ms": 6000}, {"o": "release_commits"}, {"o": "brake"}], max_chunk_rows=60)


def deletes_beside_the_copy(seed):
    """R2: rows that exist on the primary alone are deleted while chunks are read."""
    draw = random.Random(seed)
    script = [FREE, *to("DUAL_WRITE")]
    numbers = list(range(1, 901))
    draw.shuffle(numbers)
    for index, number in enumerate(numbers[:400]):
        script += say(index % 4, f"delete from t where id = {number}") + say((index + 1) % 4, f"update t set n = n + 1 where id = {number % 900 + 1}")
    return scenario([PLAIN], ["insert into t select g from generate_series(1, 900) g"], [*script, {"o": "brake"}], max_chunk_rows=30)


def killed_in_a_commit(_):
    """Banyan dies while the primary commits: the journal alone knows."""
    script = [*MIRRORING, {"o": "hold_commits"}]
    for client in range(4):
        script += held(client, f"insert into t (id, n) values ({100 + client}, 1)")
    return scenario([PLAIN], [FILLED], [*script, {"o": "sleep", "ms": 100}, {"o": "kill9"}, {"o": "sleep", "ms": 1500}, {"o": "release_commits"},
                                        {"o": "sleep", "ms": 1000}, {"o": "settle"}])


def unmirrored_beside_mirrored(_):
    """R18: a transaction from before mirroring writes a row after a mirrored one has."""
    script = [STEPPED, *say(1, "select 1"), *say(0, "begin", "update t set n = 1 where id = 2"), {"o": "to", "phase": "DUAL_WRITE"},
              {"o": "sleep", "ms": 600}, *say(1, "update t set n = 50 where id = 5"), *say(0, "update t set n = 60 where id = 5", "commit"),
              {"o": "wait"}, {"o": "brake"}]
    return scenario([PLAIN], [FILLED], script)


def writer_from_before(_):
    """R5: somebody who does not come through Banyan writes before mirroring begins, and commits after the copy."""
    direct = [{"c": 9, "do": "simple", "sql": sql, "direct": True} for sql in ("begin", "insert into t (id) values (500)", "commit")]
    script = [STEPPED, *direct[:2], *to("DUAL_WRITE"), {"o": "sleep", "ms": 1500}, direct[2], {"o": "brake"}]
    return scenario([PLAIN], [FILLED], script)


FAMILY = ["create table p (id int primary key)",
          "create table c (id int primary key, p int references p on delete set null, n int default 0)"]
FAMILIES = ["insert into p select generate_series(1, 200)", "insert into c select g, case when g > 100 then g else 1 + g / 10 end from generate_series(1, 120) g"]


def writes_under_repair(_):
    """R12: a row that turned dirty by a cascade is written again while it is repaired."""
    script = [*MIRRORING]
    for child in range(101, 107):
        script += [*say(0, f"delete from p where id = {child}"), {"o": "sleep", "ms": 60}, *say(1, f"update c set n = 7 where id = {child}"),
                   {"o": "sleep", "ms": 400}]
    return scenario(FAMILY, FAMILIES, script + SETTLE)


def dirty_again_under_repair(_):
    """R13: a key turns dirty again between its repair and the clearing."""
    script = [*MIRRORING]
    for child in range(101, 106):
        script += [*say(0, f"delete from p where id = {child}"), {"o": "sleep", "ms": 150},
                   *say(0, f"update c set p = {child + 10} where id = {child}", f"delete from p where id = {child + 10}"), {"o": "sleep", "ms": 500}]
    return scenario(FAMILY, FAMILIES, script + SETTLE)


def cascades(_):
    """What a DELETE carries along."""
    script = [*MIRRORING, *say(0, "delete from p where id = 3", "delete from p where id = 4")]
    return scenario(FAMILY, FAMILIES, script + SETTLE)


def images_out_of_order(_):
    """The mirror is slow to take one client's image; another's commits meanwhile."""
    slow = (f"{SLOW.replace('return null', 'return new')}; create trigger slow before insert or update on t for each row when (new.n = 900) "
            "execute function slow(0.3); alter table t enable replica trigger slow")
    script = [*MIRRORING]
    for number in range(1, 4):
        script += say(0, f"update t set n = 900 where id = {number}") + say(1, f"update t set n = 5 where id = {number}")
    return scenario([PLAIN, {"side": "target", "sql": slow}], [FILLED], script + SETTLE)


def refused_at_commit(_):
    """R16: a deferred constraint fails at COMMIT."""
    check = ("create function odd() returns trigger language plpgsql as $$ begin raise 'thirteen'; end $$; create constraint trigger odd "
             "after update on t deferrable initially deferred for each row when (new.n = 13) execute function odd()")
    return scenario([PLAIN, check], [FILLED], [*MIRRORING, *say(0, "begin", "update t set n = 13 where id = 3", "commit"), *SETTLE])


def rolled_back_to_a_savepoint(_):
    script = [*MIRRORING, *say(0, "begin", "insert into t (id) values (100)", "savepoint s", "insert into t (id) values (101)",
                               "rollback to s", "insert into t (id) values (102)", "commit")]
    return scenario([PLAIN], [FILLED], script + SETTLE)


def dirty_over_a_flip(_):
    """The drain: keys turn dirty all the time, and repair is slow, while the primary changes."""
    script = [*MIRRORING, {"o": "to", "phase": "SWITCHOVER"}]
    for parent in range(101, 121):
        script += [*say(parent % 3, f"delete from p where id = {parent}"), {"o": "sleep", "ms": 60}]
    return scenario(FAMILY, FAMILIES, [*script, {"o": "wait"}, {"o": "settle"}])


def stray_row(_):
    """R7: the target holds a row of its own that has a unique value of the source's."""
    stray = {"side": "target", "sql": "insert into t values (9999, 0, 7)"}
    return scenario([PLAIN, stray], [FILLED], [FREE, *to("DUAL_WRITE"), {"o": "brake"}])


def verified_while_it_commits(seed):
    """A verification ends between an opaque write's journal entry and its commit; the seed shifts one against the other."""
    writer = "create function put(which int) returns void language sql as $$ insert into t (id, n) values (which, 1) $$"
    script = [*MIRRORING, {"o": "end"}, {"o": "hold_commits"}, *held(0, "select put(100)"), {"o": "sleep", "ms": 1000 + seed % 5 * 150},
              {"o": "release_commits"}, {"o": "sleep", "ms": 2500}, {"o": "settle"}]
    return scenario([PLAIN, writer], [FILLED], script)
