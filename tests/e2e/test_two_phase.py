"""What commits outside of the usual order: two-phase commit, the fast-path function call, large objects."""
import struct

import pytest

from wire import message

SCHEMA = """
create table t (id int primary key, v text);
create table other (id int primary key, v text);
create table bystander (id int primary key);
create function poke(int) returns int language sql as $$ insert into other values ($1, 'poked') returning id $$;
create function harmless(int) returns int language sql volatile as $$ select $1 + 1 $$;
"""
ROWS = "insert into t select g, 'old' from generate_series(1, 50) g; insert into bystander select generate_series(1, 50)"


def call(oid, *values):
    """FunctionCall with int4 arguments and result in binary."""
    body = struct.pack("!IHHH", oid, 1, 1, len(values)) + b"".join(struct.pack("!Ii", 4, value) for value in values)
    return message(b"F", body + struct.pack("!H", 1))


def made_suspect(banyan):
    return [line for line in banyan.admin.metrics() if 'event="suspect"' in line]


@pytest.mark.short
@pytest.mark.parametrize("phase", ["INITIAL", "DUAL_WRITE", "DUAL_READ", "SWITCHOVER", "COMPLETE"])
def test_a_function_call_works_in_every_phase_and_what_it_changed_is_found(migration, phase):
    banyan = migration(SCHEMA, ROWS)
    banyan.lead_to(phase)
    primary = banyan.target if phase in ("SWITCHOVER", "COMPLETE") else banyan.source
    oids = dict(primary.sql("select proname, oid::int from pg_proc where proname in ('poke', 'harmless')", banyan.database))
    with banyan.wire() as client:
        for in_block in (False, True):
            if in_block:
                client.query("begin").ok()
            client.send(call(oids["harmless"], 41))
            reply = client.reply()
            assert (reply.kinds, reply.messages[0][1], reply.status) == ("VZ", struct.pack("!II", 4, 42), "T" if in_block else "I")
            client.send(call(oids["poke"], 100 + in_block))
            assert client.reply().kinds == "VZ"
            client.send(call(1))  # no such function
            reply = client.reply()
            assert (reply.kinds, reply.errors[0]["C"]) == ("EZ", "42883")
            if in_block:
                assert client.query("commit").tags == ["ROLLBACK"]
                client.query("begin").ok()
                client.send(call(oids["poke"], 200))
                assert client.reply().kinds == "VZ"
                client.query("commit").ok()
        assert client.query("select id from other order by 1").texts() == [("100",), ("200",)]
    if phase not in ("INITIAL", "COMPLETE"):
        assert [line for line in made_suspect(banyan) if "function_call" in line] != []
        banyan.settle_and_compare()


@pytest.mark.short
def test_large_objects_live_on_the_primary_and_make_nothing_suspect(migration, tmp_path):
    banyan = migration(SCHEMA, ROWS)
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill()
    file = tmp_path / "picture"
    file.write_bytes(bytes(range(256)) * 1000)
    connection = banyan.connect(autocommit=False)
    imported = connection.lobject(0, "r", 0, str(file))  # lo_import: FunctionCall all the way
    oid = imported.oid
    imported.close()
    connection.cursor().execute("insert into t values (1000, 'beside it')")
    connection.commit()
    copy = tmp_path / "copy"
    connection.lobject(oid, "r").export(str(copy))
    assert copy.read_bytes() == file.read_bytes()
    written = connection.lobject(oid, "w")
    written.write(b"new")
    connection.commit()
    assert bytes(connection.lobject(oid, "rb").read(4)) == b"new\3"
    connection.rollback()
    connection.close()
    assert banyan.source.sql("select count(*) from pg_largeobject_metadata", banyan.database) == [(1,)]
    assert banyan.target.sql("select count(*) from pg_largeobject_metadata", banyan.database) == [(0,)]
    assert made_suspect(banyan) == []
    assert banyan.target.sql("select v from t where id = 1000", banyan.database) == [("beside it",)]
    banyan.settle_and_compare()


@pytest.mark.short
def test_a_prepared_transaction_is_on_both_sides_once_it_is_committed(migration):
    banyan = migration(SCHEMA, ROWS)
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill()
    banyan.settle_and_compare()
    with banyan.wire() as client, banyan.wire() as other:
        client.query("begin; update t set v = 'two' where id <= 10; delete from t where id = 11; select poke(1)").ok()
        client.query("prepare transaction 'first'").ok()
        client.query("begin").ok()
        client.query("insert into t values (2000, 'never')").ok()
        client.query("prepare transaction 'second'").ok()
        client.query("insert into t values (2001, 'while it is pending')").ok()
        assert banyan.target.sql("select count(*) from t where v = 'two'", banyan.database) == [(0,)]
        assert other.query("commit prepared 'first'").ok().tags == ["COMMIT PREPARED"]  # from another session
        assert other.query("rollback prepared 'second'").ok().tags == ["ROLLBACK PREPARED"]
        assert other.query("commit prepared 'second'").errors[0]["C"] == "42704"
        for sql in ("begin", "insert into t values (2002, 'extended')", "prepare transaction 'third'", "commit prepared 'third'"):
            client.extended(sql).ok()
        reply = client.query("begin; select poke(3); prepare transaction 'fourth'")
        assert reply.ok().status == "I"
        client.query("commit prepared 'fourth'").ok()
    banyan.settle_and_compare()
    assert banyan.target.sql("select count(*) from t where v = 'two'", banyan.database) == [(10,)]
    assert banyan.target.sql("select id from other order by 1", banyan.database) == [(1,), (3,)]


def test_a_prepared_transaction_survives_a_restart_of_banyan(migration):
    banyan = migration(SCHEMA, ROWS)
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill()
    with banyan.wire() as client:
        client.query("begin; update t set v = 'kept'").ok()
        client.query("prepare transaction 'kept'").ok()
    banyan.kill9()
    banyan.start()
    banyan.sql("commit prepared 'kept'")
    banyan.settle_and_compare()
    assert banyan.target.sql("select distinct v from t", banyan.database) == [("kept",)]


def test_a_pending_prepared_transaction_keeps_the_switchover_waiting(migration):
    banyan = migration(SCHEMA, ROWS)
    banyan.lead_to("DUAL_READ")
    with banyan.wire() as client:
        client.query("begin; insert into t values (3000, 'pending')").ok()
        client.query("prepare transaction 'pending'").ok()
        verdicts = {gate["name"]: gate["verdict"] for gate in banyan.admin.gates("SWITCHOVER")}
        assert "fail" in verdicts.values(), verdicts
        client.query("commit prepared 'pending'").ok()
    banyan.settle_and_compare()
    banyan.lead_to("SWITCHOVER")
    banyan.settle_and_compare()
