"""Sessions that are open while primary and mirror trade places: what they own goes along, or is in the way."""
import threading

import pytest

import kit
from banyan_admin import FINISHED, listed
from kit import wait_until
from wire import SYNC, bind, execute, parse, query

SCHEMA = "create table t (id int primary key, v text)"


@pytest.fixture
def reading(migration):
    """A Banyan in DUAL_READ whose gates are open."""
    def make(schema=SCHEMA, rows="insert into t select generate_series(1, 20)", **sections):
        banyan = migration(schema, rows, **sections)
        banyan.lead_to("DUAL_READ")
        ready(banyan, "SWITCHOVER")
        return banyan

    return make


def ready(banyan, phase):
    banyan.admin.wait_clean(60 * kit.SLOW)
    verification = banyan.admin.verify(seconds=120 * kit.SLOW)
    assert verification["state"] == "equal", verification
    if phase in ("SWITCHOVER", "COMPLETE"):
        banyan.feed_shadow_reads()
    wait_until(lambda: all(gate["verdict"] == "pass" for gate in banyan.admin.gates(phase)), lambda: banyan.admin.gates(phase), 30 * kit.SLOW)


def there_and_back(banyan):
    """Leads to SWITCHOVER and back again, stopping at each."""
    banyan.admin.transition("SWITCHOVER", seconds=60 * kit.SLOW)
    yield "SWITCHOVER"
    ready(banyan, "DUAL_READ")
    banyan.admin.transition("DUAL_READ", seconds=60 * kit.SLOW)
    yield "DUAL_READ"


def id_of(banyan, client):
    name = client.value("select 'client-' || pg_backend_pid()")
    client.query(f"set application_name = '{name}'").ok()
    pid = int(name.split("-")[1])
    return next(session["id"] for session in listed(banyan.admin.get("/sessions"), "sessions")
                if pid in (session["source_process_id"], session["target_process_id"]))


def end_of(banyan, transition):
    def ended():
        found = banyan.admin.get(f"/transitions/{transition['id']}")
        return found["state"] in FINISHED and found

    return wait_until(ended, "the transition ends", 60 * kit.SLOW)


# --- brought along ---

@pytest.mark.short
def test_advisory_locks_exclude_others_on_either_side(reading):
    banyan = reading()
    with banyan.wire() as holder, banyan.wire() as other:
        holder.query("select pg_advisory_lock(5), pg_advisory_lock(-7), pg_advisory_lock(1, -2), pg_advisory_lock_shared(8)").ok()
        for phase in there_and_back(banyan):
            for call, taken in [("(5)", "f"), ("(-7)", "f"), ("(1, -2)", "f"), ("(8)", "f"), ("_shared(8)", "t"), ("(6)", "t")]:
                assert other.value(f"select pg_try_advisory_lock{call}") == taken, (phase, call)
            other.query("select pg_advisory_unlock_all()").ok()
        assert holder.value("select pg_advisory_unlock(5)") == "t"
        assert other.value("select pg_try_advisory_lock(5)") == "t"
        # Nothing was left behind on the other side for the next flip to stumble over.
        held = "select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())"
        assert banyan.target.sql(held, banyan.database) == [(0,)]


@pytest.mark.short
def test_a_lock_that_changes_hands_in_switchover_can_be_brought_back(reading):
    banyan = reading()
    with banyan.wire() as first, banyan.wire() as second:
        first.query("select pg_advisory_lock(5)").ok()
        for phase in there_and_back(banyan):
            if phase == "SWITCHOVER":
                first.query("select pg_advisory_unlock(5)").ok()
                second.query("select pg_advisory_lock(5)").ok()
            else:
                assert first.value("select pg_try_advisory_lock(5)") == "f"
                assert second.value("select pg_advisory_unlock(5)") == "t"


@pytest.mark.short
def test_statements_prepared_in_sql_can_be_executed_on_either_side(reading):
    banyan = reading()
    with banyan.wire() as client:
        client.query("prepare one(int) as select v from t where id = $1; insert into t values (50, 'once'); prepare two as select 2").ok()
        client.send(parse("select $1::int + 1", name="wire"), SYNC)
        client.reply().ok()
        for _ in there_and_back(banyan):
            assert client.value("execute one(50)") == "once"
            assert client.value("execute two") == "2"
            assert client.value("execute wire(1)") == "2"
            client.send(bind([4], name="wire"), execute(), SYNC)
            assert client.reply().ok().texts() == [("5",)]
        client.query("deallocate wire").ok()
        assert client.query("execute wire(1)").errors[0]["C"] == "26000"
        assert client.value("select count(*) from t where v = 'once'") == "1"


@pytest.mark.short
def test_a_wire_statement_nobody_used_since_the_flip_can_be_deallocated_in_sql(reading):
    banyan = reading()
    with banyan.wire() as client:
        client.send(parse("select 1", name="_pg3_0"), SYNC)
        client.reply().ok()
        banyan.admin.transition("SWITCHOVER")
        client.query("deallocate _pg3_0").ok()


@pytest.mark.short
def test_a_listener_is_notified_on_either_side(reading):
    banyan = reading()
    with banyan.wire() as listener, banyan.wire() as speaker:
        listener.query('listen "the News"').ok()
        for phase in there_and_back(banyan):
            speaker.query(f"notify \"the News\", '{phase}'").ok()
            kind, body = listener.receive()
            assert kind == b"A" and body[4:] == b"the News\0" + phase.encode() + b"\0"
        speaker.query("notify \"the News\", 'last'").ok()
        assert listener.receive()[0] == b"A"  # once, not once from each side
        assert listener.query("select 1").kinds == "TDCZ"


def test_no_notification_is_lost_or_doubled_while_sessions_move(reading):
    banyan = reading()
    stop, sent, failures = threading.Event(), [], []

    def speak():
        try:
            with banyan.wire() as speaker:
                while not stop.is_set():
                    speaker.query(f"notify news, '{len(sent)}'").ok()
                    sent.append(len(sent))
        except Exception as error:  # shown by the test
            failures.append(error)

    with banyan.wire() as listener:
        listener.query("listen news").ok()
        thread = threading.Thread(target=speak)
        thread.start()
        try:
            for _ in there_and_back(banyan):
                pass
        finally:
            stop.set()
            thread.join()
        assert not failures, failures
        heard = []
        while len(heard) < len(sent):
            kind, body = listener.receive()
            assert kind == b"A"
            heard.append(int(body[9:-1]))
        assert sorted(heard) == sent
        assert listener.query("select 1").kinds == "TDCZ"


@pytest.mark.short
def test_roles_and_session_authorization_go_along(reading):
    banyan = reading(SCHEMA + "; create schema s; create table s.t (id int primary key)")
    for cluster in (banyan.source, banyan.target):
        # `limited` may not set session_replication_role: leaving the mirror's settings must not need it.
        cluster.sql("do $$ begin create role limited; exception when duplicate_object then null; end $$; grant limited to app")
        cluster.sql("grant all on schema s to limited; grant all on s.t, public.t to limited", banyan.database)
    with banyan.wire() as client, banyan.wire(user="postgres") as superuser:
        client.query("set role limited; set search_path = s, public; set timezone = 'Asia/Tokyo'; set lock_timeout = '7s'").ok()
        superuser.query("set session authorization app; set role limited").ok()
        for number, _ in enumerate(there_and_back(banyan)):
            assert client.query("select current_user, session_user").ok().texts() == [("limited", "app")]
            assert superuser.query("select current_user, session_user").ok().texts() == [("limited", "app")]
            assert client.value("show timezone") == "Asia/Tokyo"
            assert client.value("show lock_timeout") == "7s"
            assert client.value("show session_replication_role") == "origin"
            client.query(f"insert into t values ({number})").ok()
            assert superuser.value("show session_replication_role") == "origin"
        superuser.query("reset session authorization").ok()
        assert superuser.value("select current_user") == "postgres"
    assert banyan.source.sql("select id from s.t order by id", banyan.database) == [(0,), (1,)]
    banyan.settle_and_compare()


@pytest.mark.short
def test_currval_is_never_a_value_of_another_time(reading):
    banyan = reading("create table t (id serial primary key, v text)", "insert into t (v) select 'x' from generate_series(1, 20)")
    with banyan.wire() as client:
        assert client.value("insert into t (v) values ('a') returning id") == client.value("select currval('t_id_seq')")
        for _ in there_and_back(banyan):
            assert client.query("select currval('t_id_seq')").errors[0]["C"] == "55000"
            assert client.value("insert into t (v) values ('a') returning id") == client.value("select currval('t_id_seq')")


# --- in the way ---

BLOCKERS = {
    "table": ("create temp table scratch as select 1 as a", 'temporary table "scratch"', "select a from scratch", "drop table scratch"),
    "table made by a function": ("do $$ begin create temp table made as select 1 as a; end $$", 'temporary table "made"', "select a from made",
                                 "drop table made"),
    "cursor": ("declare c scroll cursor with hold for select 1", 'cursor WITH HOLD "c"', "fetch absolute 1 from c", "close c"),
    "sequence": ("create temp sequence counter", 'temporary sequence "counter"', "select 1", "drop sequence counter"),
    "function": ("create function pg_temp.f() returns int language sql as 'select 1'", 'temporary function "pg_temp', "select pg_temp.f()",
                 "drop function pg_temp.f()"),
}


@pytest.mark.short
@pytest.mark.parametrize("name", BLOCKERS)
def test_what_cannot_go_along_is_waited_for_by_name(reading, name):
    make, thing, use, undo = BLOCKERS[name]
    banyan = reading()
    with banyan.wire(application_name="owner") as owner, banyan.wire() as other:
        owner.query(make).ok()
        transition = banyan.admin.start_transition("SWITCHOVER", deadline_ms=int(60000 * kit.SLOW))

        def blocked():
            return banyan.admin.get(f"/transitions/{transition['id']}")["blocked_sessions"]

        found = wait_until(blocked, "it is reported", 10 * kit.SLOW)
        assert [(session["user"], session["application"], session["ended"]) for session in found] == [("app", "owner", False)]
        assert any(what.startswith(thing) for what in found[0]["things"]), found
        shown = next(session for session in listed(banyan.admin.get("/sessions"), "sessions") if session["id"] == found[0]["id"])
        assert shown["blocking"] == found[0]["things"]
        assert thing in banyan.ctl("status").stdout
        # Nobody is held meanwhile, not even its owner.
        assert banyan.admin.status()["hold"] is False
        other.query("insert into t values (100, 'meanwhile')").ok()
        if name != "sequence":
            assert owner.value(use) == "1"
        owner.query(undo).ok()
        assert end_of(banyan, transition)["state"] == "done"
        assert other.value("select v from t where id = 100") == "meanwhile"
        assert owner.value("select v from t where id = 100") == "meanwhile"


@pytest.mark.short
def test_by_default_the_transition_is_aborted_and_nobody_is_hurt(reading):
    banyan = reading()
    with banyan.wire() as owner, banyan.wire() as other:
        owner.query("create temp table scratch as select 7 as a").ok()
        number = id_of(banyan, owner)
        done = banyan.ctl("advance", "--yes", "--reason", "test", "--deadline", "2")
        assert done.returncode == 4, done.stdout + done.stderr
        assert f"session {number}" in done.stdout and 'temporary table "scratch"' in done.stdout + done.stderr
        last = listed(banyan.admin.get("/transitions"), "transitions")[0]
        assert last["state"] == "aborted" and last["on_blocked_sessions"] == "abort", last
        assert [(session["id"], session["things"]) for session in last["blocked_sessions"]] == [(number, ['temporary table "scratch"'])]
        assert f"session {number}" in last["error"] and "hold" not in [step["name"] for step in last["steps"] if step["state"] == "done"]
        assert banyan.admin.phase() == "DUAL_READ"
        assert owner.value("select a from scratch") == "7"
        other.query("insert into t values (100, 'after')").ok()
    banyan.settle_and_compare()


@pytest.mark.short
@pytest.mark.parametrize("how", ["request", "configuration"])
def test_if_so_chosen_those_sessions_end_and_no_others(reading, how):
    banyan = reading(**({"switchover": {"blocking_sessions": "end"}} if how == "configuration" else {}))
    with banyan.wire() as owner, banyan.wire() as other, banyan.wire() as locker:
        owner.query("create temp table scratch as select 7 as a").ok()
        other.query("set my.own = 'kept'").ok()
        locker.query("select pg_advisory_lock(5)").ok()
        number = id_of(banyan, owner)
        arguments = ["--end-blocking-sessions"] if how == "request" else []
        done = banyan.ctl("advance", "--yes", "--reason", "test", "--deadline", "3", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"ended: session {number}" in done.stdout
        messages = owner.wait_closed()
        assert [kind for kind, _ in messages] == [b"E"] and b"C57P01\0" in messages[0][1] and b'temporary table "scratch"' in messages[0][1]
        last = listed(banyan.admin.get("/transitions"), "transitions")[0]
        assert [(session["id"], session["ended"]) for session in last["blocked_sessions"]] == [(number, True)]
        assert other.value("show my.own") == "kept"
        assert other.value("select pg_try_advisory_lock(5)") == "f"
    assert banyan.admin.phase() == "SWITCHOVER"


@pytest.mark.short
def test_the_way_back_asks_too(reading):
    banyan = reading()
    banyan.admin.transition("SWITCHOVER")
    ready(banyan, "DUAL_READ")
    with banyan.wire() as owner:
        owner.query("create temp table scratch as select 7 as a").ok()
        with pytest.raises(kit.TransitionError) as error:
            banyan.admin.transition("DUAL_READ", deadline_ms=2000)
        assert 'temporary table "scratch"' in error.value.transition["error"]
        assert owner.value("select a from scratch") == "7"
        with pytest.raises(kit.AdminError):
            banyan.admin.post("/transitions", {"from": "SWITCHOVER", "to": "DUAL_READ", "reason": "x", "on_blocked_sessions": "kill"})
        banyan.admin.transition("DUAL_READ", deadline_ms=3000, on_blocked_sessions="end")
        assert b"C57P01\0" in owner.wait_closed()[0][1]


@pytest.mark.short
def test_steps_that_keep_the_primary_ask_nobody(migration):
    banyan = migration(SCHEMA, "insert into t select generate_series(1, 20)")
    with banyan.wire() as owner:
        owner.query("create temp table scratch as select 7 as a").ok()
        banyan.lead_to("DUAL_READ")
        assert owner.value("select a from scratch") == "7"
        banyan.admin.transition("DUAL_WRITE")
        assert owner.value("select a from scratch") == "7"


@pytest.mark.short
def test_a_lock_held_directly_on_the_target_is_in_the_way_and_its_holder_named(reading):
    banyan = reading()
    with banyan.wire() as client:
        client.query("select pg_advisory_lock(5)").ok()
        stranger = banyan.target.connect(banyan.database)
        try:
            with stranger.cursor() as cursor:
                cursor.execute("select pg_advisory_lock(5), pg_backend_pid()")
                process = cursor.fetchone()[1]
            with pytest.raises(kit.TransitionError) as error:
                banyan.admin.transition("SWITCHOVER", deadline_ms=2000)
            assert "advisory lock 5" in error.value.transition["error"] and f"process {process}" in error.value.transition["error"]
            assert error.value.transition["state"] == "aborted"
        finally:
            stranger.close()
        banyan.admin.transition("SWITCHOVER")
        assert client.value("select pg_advisory_unlock(5)") == "t"


@pytest.mark.short
@pytest.mark.parametrize("choice", ["abort", "end"])
def test_a_statement_that_waits_for_an_idle_sessions_lock_does_not_keep_everybody_held(reading, choice):
    banyan = reading()
    with banyan.wire() as leader, banyan.wire() as second, banyan.wire() as other:
        leader.query("select pg_advisory_lock(5)").ok()
        second.send(query("select pg_advisory_lock(5)"))
        transition = banyan.admin.start_transition("SWITCHOVER", deadline_ms=3000, on_blocked_sessions=choice)
        wait_until(lambda: banyan.admin.get(f"/transitions/{transition['id']}")["blocked_sessions"], "it is seen", 10 * kit.SLOW)
        assert banyan.admin.status()["hold"] is False
        other.query("insert into t values (100, 'meanwhile')").ok()
        ended = end_of(banyan, transition)
        assert ended["state"] == "aborted" and "waits for advisory lock 5" in ended["error"], ended
        leader.query("select pg_advisory_unlock(5)").ok()
        second.reply().ok()
        banyan.admin.transition("SWITCHOVER")
        assert leader.value("select pg_try_advisory_lock(5)") == "f"


@pytest.mark.short
def test_a_prepared_statement_the_target_cannot_prepare_is_in_the_way(reading):
    banyan = reading()
    banyan.source.sql("create function only_here() returns int language sql as 'select 1'", banyan.database)
    with banyan.wire() as client:
        client.query("prepare q as select only_here()").ok()
        with pytest.raises(kit.TransitionError) as error:
            banyan.admin.transition("SWITCHOVER", deadline_ms=2500)
        assert 'prepared statement "q"' in error.value.transition["error"]
        assert client.value("execute q") == "1"
        client.query("deallocate q").ok()
        banyan.admin.transition("SWITCHOVER")


def test_temporary_tables_that_come_and_go_do_not_stop_a_switchover(reading):
    """A re-check under the hold meets some of them: the hold is released, and nobody notices but by a short wait."""
    banyan = reading()
    stop, failures, rounds = threading.Event(), [], [0]

    def work():
        try:
            with banyan.wire() as client:
                while not stop.wait(0.02):
                    client.query("create temp table scratch (a int)").ok()
                    client.query("insert into scratch values (1)").ok()
                    assert client.value("select count(*) from scratch") == "1"
                    client.query("drop table scratch").ok()
                    rounds[0] += 1
        except Exception as error:  # shown by the test
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        banyan.admin.transition("SWITCHOVER", deadline_ms=int(60000 * kit.SLOW), seconds=70 * kit.SLOW)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures, failures
    assert rounds[0] > 0


# --- temporary tables and the mirror ---

@pytest.mark.short
def test_a_temporary_table_is_no_concern_of_the_mirrors(reading):
    banyan = reading()
    with banyan.wire() as client:
        client.query("create temp table scratch (id int primary key, v text)").ok()
        client.query("insert into scratch values (1, 'a'), (2, 'b'); update scratch set v = 'c'; delete from scratch where id = 1").ok()
        client.query("truncate scratch; create index on scratch (v); alter table scratch add w int; drop table scratch cascade").ok()
    assert banyan.admin.get("/journal")["suspect_tables"] == 0
    assert banyan.target.sql("select count(*) from pg_class where relname = 'scratch'", banyan.database) == [(0,)]
    banyan.settle_and_compare()


HIDING = {
    "created": "create temp table t (id int primary key, v text)",
    "created by a function": "do $$ begin create temp table t (id int primary key, v text); end $$",
    "selected into": "select 1 as id, 'x'::text as v into temp t",
}


@pytest.mark.short
@pytest.mark.parametrize("how", HIDING)
def test_a_temporary_table_hides_the_mirrored_one_of_its_name(reading, how):
    banyan = reading()
    with banyan.wire() as client:
        client.query(HIDING[how]).ok()
        client.query("insert into t values (100, 'hidden')").ok()
        client.extended("insert into t values ($1, 'hidden')", ["101"]).ok()
        client.query("update t set v = 'hidden'").ok()
        client.query("insert into public.t values (200, 'real')").ok()
        client.query("delete from t").ok()
        client.query("drop table t cascade").ok()  # the temporary one, there and nowhere else
        client.query("insert into t values (201, 'real')").ok()
    banyan.settle_and_compare()
    for cluster in (banyan.source, banyan.target):
        assert cluster.sql("select id, v from t where id >= 100 order by id", banyan.database) == [(200, "real"), (201, "real")]


@pytest.mark.short
def test_a_temporary_table_from_before_mirroring_hides_too(migration):
    banyan = migration(SCHEMA, "insert into t select generate_series(1, 20)")
    with banyan.wire() as client:
        client.query("create temp table t (id int primary key, v text)").ok()
        banyan.lead_to("DUAL_WRITE")
        client.query("insert into t values (100, 'hidden')").ok()
        client.query("set search_path = public, pg_temp").ok()  # now it is the other one
        client.query("insert into t values (200, 'real')").ok()
        banyan.admin.wait_backfill()
    banyan.settle_and_compare()
    assert banyan.target.sql("select id, v from t where id >= 100 order by id", banyan.database) == [(200, "real")]


@pytest.mark.short
def test_a_temporary_table_dropped_by_its_commit_hides_nothing_any_more(reading):
    banyan = reading()
    with banyan.wire() as client:
        client.query("begin").ok()
        client.query("create temp table t (id int primary key, v text) on commit drop").ok()
        client.query("insert into t values (100, 'hidden')").ok()
        client.query("commit").ok()
        client.query("insert into t values (200, 'real')").ok()
    banyan.settle_and_compare()
    assert banyan.target.sql("select id, v from t where id >= 100 order by id", banyan.database) == [(200, "real")]
