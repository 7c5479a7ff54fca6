"""How the mirror is logged in to, in the client's name: without a password of its role, and without giving anything away."""
import pytest

import kit
from kit import wait_until
from wire import WireError

SCHEMA = "create table t (id int primary key, v text)"


def logins(banyan, user):
    return [session["mirror_login"] for session in banyan.admin.get("/sessions")["sessions"] if session["user"] == user]


def backends(cluster, banyan, user):
    return cluster.sql("select count(*) from pg_stat_activity where datname = %s and usename = %s and application_name not like 'banyan-%%'",
                       parameters=(banyan.database, user))[0][0]


@pytest.fixture
def twin(source, target):
    """A SCRAM role with the very same verifier on both servers."""
    for cluster in (source, target):
        cluster.sql("grant set on parameter session_replication_role to scram_user")
    before = target.sql("select rolpassword from pg_authid where rolname = 'scram_user'")[0][0]
    verifier = source.sql("select rolpassword from pg_authid where rolname = 'scram_user'")[0][0]
    target.sql(f"alter role scram_user password '{verifier}'")
    yield "scram_user"
    target.sql(f"alter role scram_user password '{before}'")


def test_scram_keys_of_the_clients_login_open_the_mirror_and_survive_the_switchover(migration, twin):
    banyan = migration(SCHEMA + f"; grant all on t to {twin}", users=("app",))
    early = banyan.wire(twin)  # logged in long before anything is mirrored
    banyan.lead_to("DUAL_WRITE")
    with banyan.wire(twin) as late:
        for number, client in enumerate((early, late)):
            client.query(f"insert into t values ({number}, 'one')").ok()
        assert logins(banyan, twin) == ["scram_keys"] * 2
        assert backends(banyan.target, banyan, twin) == 2
        banyan.settle_and_compare()
    banyan.lead_to("SWITCHOVER")
    early.query("insert into t values (7, 'two')").ok()  # the same session, on its mirror connection
    assert early.value("select session_user") == twin
    with banyan.wire(twin) as back:
        back.query("insert into t values (8, 'three')").ok()
        assert sorted(logins(banyan, twin)) == ["client", "scram_keys"]  # the one's former primary, the other's own login
    banyan.settle_and_compare()
    early.close()
    assert kit.PASSWORDS[twin] not in banyan.log()


def test_other_verifiers_open_nothing_and_the_log_says_what_is_missing(migration):
    banyan = migration(SCHEMA + "; grant all on t to scram_user", users=("app",))
    assert banyan.source.sql("select rolpassword from pg_authid where rolname = 'scram_user'") != banyan.target.sql(
        "select rolpassword from pg_authid where rolname = 'scram_user'")
    banyan.lead_to("DUAL_WRITE")
    with banyan.wire("scram_user") as client:
        client.query("insert into t values (1, 'one')").ok()
        wait_until(lambda: 'asks "scram_user" for a password, and there is none here for it' in banyan.log(), banyan.log)
    banyan.settle_and_compare()


@pytest.mark.parametrize("user", ("cleartext_user", "md5_user"))
def test_weak_answers_are_not_given_to_the_mirror_unless_allowed(migration, user):
    banyan = migration(SCHEMA + f"; grant all on t to {user}", mirror={"allow_cleartext": "encrypted", "allow_md5": False})
    banyan.lead_to("DUAL_WRITE")
    with banyan.wire(user) as client:
        client.query("insert into t values (1, 'one')").ok()
        wait_until(lambda: "which is not allowed here" in banyan.log(), banyan.log)
    assert backends(banyan.target, banyan, user) == 0
    banyan.settle_and_compare()


# --- the service role ---

SERVICE = {"logins": ["users", "scram_keys", "service_role"]}


@pytest.fixture
def served(migration, source, target):
    """A role that only the service role can log in to the mirror for, and a record of who writes there."""
    for cluster in (source, target):
        cluster.sql("create role served login; alter role served set search_path = other, public")
    banyan = migration("create schema other; create table other.t (id int primary key, v text); grant all on schema other to served; "
                       "grant all on other.t to served", "insert into other.t values (0, 'zero')", users=(), mirror=SERVICE)
    banyan.target.sql("create table public.seen (who text, id int); grant all on seen to public; create function public.note() returns trigger "
                      "language plpgsql as $$ begin if current_setting('application_name') not like 'banyan-%' then "  # backfill and repair
                      "insert into public.seen values (session_user || '/' || current_user, new.id); end if; return new; end $$; "
                      "create trigger note before insert on other.t for each row execute function public.note(); "
                      "alter table other.t enable always trigger note", banyan.database)
    banyan.source.sql("create table public.seen (who text, id int)", banyan.database)
    banyan.sections["migration"]["exclude"] = ["public.seen"]
    banyan.restart()
    yield banyan
    banyan.close()
    for cluster in (source, target):
        cluster.sql(f'drop database "{banyan.database}" with (force)')
        cluster.sql("drop role served")


def test_the_service_role_writes_and_reads_as_the_clients_role(served):
    served.lead_to("DUAL_WRITE")
    with served.wire("served") as client:
        for number, sql in enumerate(("select 1", "reset session authorization", "set session authorization default", "discard all",
                                      "reset all", "set session authorization served")):
            client.query(sql).ok()
            client.query(f"insert into t values ({number + 1}, 'one')").ok()
        assert logins(served, "served") == ["service_role"]
    served.admin.wait_clean()
    assert served.target.sql("select who, id from public.seen order by id", served.database) == [("served/served", n) for n in range(1, 7)]
    served.lead_to("DUAL_READ")
    with served.wire("served") as client:
        wait_until(lambda: all(session["mirror_ready"] for session in served.admin.get("/sessions")["sessions"]), "the mirror is logged in")
        before = served.admin.get("/shadow")["matched"]
        for _ in range(5):
            client.query("select v from t order by id").ok()  # found by the role's search_path
        client.query("set search_path = pg_catalog; reset search_path").ok()
        client.query("select v from t order by id").ok()
        wait_until(lambda: served.admin.get("/shadow")["matched"] >= before + 6, lambda: served.admin.get("/shadow"))
    assert served.admin.discrepancies()["confirmed"] == 0


def test_a_session_of_the_service_role_is_ended_at_the_switchover_and_gives_no_rights_away(served):
    served.lead_to("DUAL_READ")
    client = served.wire("served")
    client.query("insert into t values (1, 'one')").ok()
    assert logins(served, "served") == ["service_role"]
    served.lead_to("SWITCHOVER")
    (kind, body), = [message for message in client.wait_closed() if message[0] == b"E"]
    assert b"C57P01\0" in body and b"service role" in body and b"[[users]]" in body
    with served.wire("served") as again:
        again.query("reset session authorization").ok()
        assert again.value("select session_user") == "served"
        with pytest.raises(WireError, match="permission denied"):
            again.query("set session authorization postgres").ok()
        again.query("insert into t values (2, 'two')").ok()
        assert logins(served, "served") == ["service_role"]
    served.admin.wait_clean()


def test_code_that_takes_the_service_roles_rights_costs_the_mirror_connection(served):
    served.source.sql("grant all on schema public to served", served.database)
    served.target.sql("grant all on schema public to served", served.database)
    served.lead_to("DUAL_READ")
    with served.wire("served") as client:
        client.query("create function public.climb() returns int stable language plpgsql as $$ begin "
                     "perform set_config('session_authorization', 'postgres', false); return 1; "
                     "exception when others then return 0; end $$").ok()
        client.query("insert into t values (1, 'one')").ok()
        served.admin.wait_clean()
        wait_until(lambda: (client.query("select public.climb() from t").ok(), "authorization changed" in served.log())[1],
                   served.log, 20 * kit.SLOW)
        assert client.value("select session_user") == "served"
