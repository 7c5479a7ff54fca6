"""What went wrong on the wire elsewhere, against real servers: each line that unit tests cannot show."""
import pathlib
import threading

import pytest

from wire import SYNC, bind, execute, parse, query

SCHEMA = "create table t (id int primary key, v text)"


@pytest.fixture(params=["INITIAL", "DUAL_WRITE", "SWITCHOVER"])
def banyan(request, migration):
    made = migration(SCHEMA, "insert into t values (0, 'first')")
    made.lead_to(request.param)
    return made


@pytest.mark.short
def test_a_bind_with_as_many_parameters_as_the_protocol_has(banyan):
    values = ", ".join(f"(${number}::int)" for number in range(1, 65536))
    sql = f"insert into t (id) values {values}"
    with banyan.wire() as client:
        client.send(parse(sql), bind(range(1, 65536)), execute(), SYNC)
        assert client.reply().ok().tags == ["INSERT 0 65535"]
        assert client.value("select count(*), sum(id) from t") == "65536"
    if banyan.admin.phase() != "INITIAL":
        banyan.settle_and_compare()


@pytest.mark.short
def test_a_client_that_sends_much_and_reads_late_is_served_in_the_end(banyan):
    """Full duplex: writing that blocks must not keep Banyan from reading, nor may it buffer without bound."""
    count, size = 1500, 20000
    rss = pathlib.Path(f"/proc/{banyan.process.pid}/statm")
    with banyan.wire() as client, banyan.wire() as bystander:
        before = int(rss.read_text().split()[1])
        sender = threading.Thread(target=lambda: client.send(*[query(f"select {number}, repeat('x', {size})") for number in range(count)]))
        sender.start()
        for _ in range(30):
            assert bystander.value("select count(*) from t") == "1"
        held = (int(rss.read_text().split()[1]) - before) * 4096
        assert held < 24 << 20, f"{held} bytes for a client that does not read {count * size}"
        for number in range(count):
            assert client.reply().ok().texts() == [(str(number), "x" * size)]
        sender.join()


@pytest.mark.short
def test_a_clients_search_path_does_not_reach_what_banyan_asks(migration):
    """CVE-2025-12819: impostors of what Banyan reads, found first."""
    impostors = """
create schema evil;
create table evil.pg_settings (name text primary key, setting text, source text);
insert into evil.pg_settings values ('session_replication_role', 'replica', 'session');
create view evil.pg_stat_xact_user_tables as select 1::oid as relid, 0::bigint as n_tup_ins, 0::bigint as n_tup_upd, 0::bigint as n_tup_del where false;
create function evil.current_setting(text) returns text language sql as $$ select 'postgres'::text $$;
create function evil.current_schemas(bool) returns name[] language sql as $$ select array['evil'::name] $$;
create function poke() returns void language sql as $$ insert into public.t values (3, 'poked') $$;
"""
    banyan = migration(SCHEMA + ";" + impostors)
    banyan.lead_to("DUAL_READ")
    with banyan.wire(options="-c search_path=evil,public,pg_catalog") as client:
        client.query("set search_path = evil, public, pg_catalog").ok()
        client.query("insert into t values (1, 'one')").ok()
        client.query("select poke()").ok()
        assert client.value("select v from t where id = 1") == "one"
        banyan.lead_to("SWITCHOVER")
        client.query("insert into t values (2, 'two')").ok()
    banyan.settle_and_compare()
    assert banyan.source.sql("select id from t order by 1", banyan.database) == [(1,), (2,), (3,)]
