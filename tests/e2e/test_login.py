"""Logging in: the primary's own challenge, whatever the method; plain words for the wrong database."""
import random
import threading
import time

import psycopg2
import pytest

from kit import PASSWORDS, Workers, wait_until
from wire import WireError, cancel

METHODS = {"cleartext_user": 3, "md5_user": 5, "scram_user": 10}


@pytest.mark.short
@pytest.mark.parametrize("user", METHODS)
def test_each_authentication_method_is_relayed_to_the_server(migration, user):
    banyan = migration()
    with banyan.wire(user) as client:
        assert client.methods[0] == METHODS[user]
        assert client.value("select current_user") == user
    with pytest.raises(WireError) as refused:
        banyan.wire(user, password="wrong")
    assert refused.value.sqlstate == "28P01"
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(banyan.dsn().replace("user=app", f"user={user}") + " password='wrong'")
    assert banyan.sql("select current_user", user=user) == [(user,)]


@pytest.mark.parametrize("user", METHODS)
def test_a_client_with_a_password_is_mirrored_with_its_own_credentials(migration, user):
    banyan = migration(f"create table t (id int primary key, v text default current_user); grant all on t to {user}")
    banyan.lead_to("DUAL_WRITE")
    banyan.sql("insert into t (id) values (1)", user=user)
    banyan.admin.wait_clean()
    assert banyan.target.sql("select id, v from t", banyan.database) == [(1, user)]
    banyan.settle_and_compare()


@pytest.mark.short
def test_a_trusted_client_needs_no_password(migration):
    with migration().wire("app") as client:
        assert client.methods == [0]


@pytest.mark.short
def test_a_database_outside_the_migration_is_refused_in_plain_words(migration):
    banyan = migration()
    with pytest.raises(WireError) as refused:
        banyan.wire(database="no_such_database")
    assert refused.value.sqlstate == "3D000"
    assert refused.value.fields["S"] == "FATAL"
    assert "no_such_database" in str(refused.value)
    with pytest.raises(WireError) as refused:  # exists on the server, but is not Banyan's business
        banyan.wire(database="template1")
    assert refused.value.sqlstate == "3D000"


def test_an_unknown_role_gets_the_servers_answer(migration):
    banyan = migration()
    with pytest.raises(WireError) as refused:
        banyan.wire("nobody_at_all")
    assert refused.value.sqlstate == "28000"


@pytest.mark.short
def test_parameters_of_the_startup_message_reach_the_server(migration):
    banyan = migration()
    with banyan.wire(options="-c statement_timeout=12345 -c search_path=pg_catalog", application_name="a name",
                     extra_float_digits="0", DateStyle="German") as client:
        assert client.value("show statement_timeout") == "12345ms"
        assert client.value("show search_path") == "pg_catalog"
        assert client.value("show application_name") == "a name"
        assert client.value("show extra_float_digits") == "0"
        assert client.value("show datestyle") == "German, DMY"
        assert client.parameters["DateStyle"] == "German, DMY"


@pytest.mark.short
def test_a_cancel_request_ends_the_running_query_and_only_that_one(migration):
    banyan = migration()
    with banyan.wire() as client, banyan.wire() as other:
        answers = []
        threads = [threading.Thread(target=lambda sql=sql, it=it: answers.append((it, it.query(sql))))
                   for it, sql in ((client, "select pg_sleep(20)"), (other, "select pg_sleep(1.5)"))]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(banyan.source.sql("select 1 from pg_stat_activity where query like 'select pg_sleep%%' and state = 'active' "
                                                 "and datname = %s", parameters=(banyan.database,))) == 2, "both sleep")
        began = time.monotonic()
        cancel(banyan.port, client.process_id, client.secret)
        for thread in threads:
            thread.join(30)
        assert time.monotonic() - began < 15
        outcome = {it: [error["C"] for error in reply.errors] for it, reply in answers}
        assert outcome == {client: ["57014"], other: []}
        # A cancel with nothing running hurts nothing, and a wrong secret cancels nothing.
        cancel(banyan.port, client.process_id, client.secret)
        cancel(banyan.port, other.process_id, other.secret ^ 1)
        assert client.value("select 1") == "1"
        assert other.value("select pg_sleep(0.2)") == ""


@pytest.mark.short
def test_a_cancel_request_that_was_taken_never_ends_a_later_query(migration):
    """Once the connection that brought it is closed, a cancel request has hit what was running, or nothing."""
    banyan = migration("create table t (id int primary key)")
    banyan.lead_to("DUAL_READ")
    stray = []

    def work(number, stop):
        rounds = random.Random(number)
        with banyan.wire() as client:
            for _ in range(150):
                asker = threading.Timer(rounds.random() * 0.004, lambda: cancel(banyan.port, client.process_id, client.secret))
                asker.start()
                client.query(f"select pg_sleep({rounds.random() * 0.004})")
                asker.join()
                stray.extend(client.query("select 1").errors)

    with Workers(3, work) as workers:
        for thread in workers.threads:
            thread.join()
    assert stray == []


def test_the_process_id_shown_to_the_client_is_the_servers(migration):
    with migration().wire() as client:
        assert int(client.value("select pg_backend_pid()")) == client.process_id


def test_many_sessions_at_once(migration):
    banyan = migration("create table t (id int primary key)")
    clients = [banyan.wire() for _ in range(60)]
    for number, client in enumerate(clients):
        client.query(f"insert into t values ({number})").ok()
    assert clients[-1].value("select count(*) from t") == "60"
    assert len({client.process_id for client in clients}) == 60
    for client in clients:
        client.close()
    wait_until(lambda: not banyan.source.sql("select 1 from pg_stat_activity where datname = %s and usename = 'app'",
                                             parameters=(banyan.database,)), "their backends are gone")
