"""Every error of Banyan's own: the code, README.md's table and the tests name the same ones.

A row of the table is met here by a conversation that provokes it, or names the unit test that does.
"""
import re
import signal
import socket
import struct

import pytest

from kit import ROOT
from wire import SYNC, Wire, bind, execute, fields_of, message, parse, query, startup

SOURCES = [ROOT / folder for folder in ("router/session", "proxy", "protocol")]
TEXT = r'(?:std::string\()?((?:"(?:[^"\\]|\\.)*"\s*)+)'
ERROR = re.compile(r'(?:fail_session|encode_error)\(\s*(?:[\w.]+,\s*)?(?:"(?:FATAL|ERROR)",\s*)?"([0-9A-Z]{5})",\s*' + TEXT)
ROW = re.compile(r"^\| ([0-9A-Z]{5}) \| `(.+?)` \| .+ \|$")
SCHEMA = "create table t (id int primary key, v text)"


def text_of(literals):
    return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', literals)).replace('\\"', '"')


def in_code():
    """{(SQLSTATE, the message up to its first variable part)}, and every SQLSTATE there is a literal of."""
    pairs, codes = set(), set()
    for folder in SOURCES:
        for file in [*folder.glob("*.cpp"), *folder.glob("*.hpp")]:
            source = file.read_text()
            pairs |= {(code, text_of(literals)) for code, literals in ERROR.findall(source)}
            codes |= set(re.findall(r'(?<![!=]= )(?<!starts_with\()"([0-9][0-9A-Z]{4})"', source))
    return pairs, codes


def in_readme():
    rows = [match.groups() for match in map(ROW.match, (ROOT / "README.md").read_text().splitlines()) if match]
    assert len(rows) == len(set(rows))
    return {(code, text.split("…")[0]) for code, text in rows}


ROWS = sorted(in_readme())
PROVOKERS = {}


def provokes(code, text):
    def register(function):
        assert (code, text) not in PROVOKERS
        PROVOKERS[code, text] = function
        return function

    return register


def unit(code, text, file, name):
    """The row is met by this test elsewhere, which must exist and name the code."""
    def look(_):
        source = (ROOT / file).read_text()
        found = re.search(rf"^(?:TEST\({name.replace('.', ', ')}\)|def {name}\().*?^(?:}}|(?=\S))", source, re.S | re.M)
        assert found and code in found.group(0), f"{file}: {name} does not show {code}"

    provokes(code, text)(look)


def last_words(client):
    errors = [fields_of(body) for kind, body in client.wait_closed(30) if kind == b"E"]
    assert len(errors) == 1, errors
    client.socket.close()
    return errors[0]


def raw(banyan, *data):
    """What a connection that says this is told."""
    client = Wire(banyan.port, login=False)
    client.send(*data)
    return last_words(client)


def said_in_session(banyan, *data):
    client = banyan.wire()
    client.send(*data)
    return last_words(client)


def mirroring(make, **sections):
    banyan = make(SCHEMA, **sections)
    banyan.lead_to("DUAL_WRITE")
    return banyan


# --- login ---

@provokes("0A000", "unsupported frontend protocol ")
def protocol_2(make):
    return raw(make(), startup({"user": "app"}, 131072))


@provokes("08P01", "invalid startup packet layout: expected terminator as last byte")
def no_terminator(make):
    return raw(make(), struct.pack("!II", 17, 196608) + b"user\0app\0")


@provokes("28000", "no PostgreSQL user name specified in startup packet")
def no_user(make):
    return raw(make(), startup({"database": "x"}))


@provokes("3D000", 'database "')
def another_database(make):
    return raw(make(), startup({"user": "app", "database": "elsewhere"}))


@provokes("0A000", "replication connections are not served in phase ")
def replication_while_mirroring(make):
    return raw(mirroring(make), startup({"user": "postgres", "replication": "true"}))


@provokes("08P01", "invalid message length during authentication")
def long_password(make):
    banyan = make()
    client = Wire(banyan.port, login=False)
    client.send(startup({"user": "scram_user", "database": banyan.database}))
    assert client.receive()[0] == b"R"
    client.send(b"p" + struct.pack("!I", 4 + 1025))  # longer than any SASL message
    return last_words(client)


@provokes("08006", "the login took too long")
def half_a_startup(make):
    banyan = make(limits={"login_timeout_ms": 200})
    return raw(banyan, startup({"user": "app"})[:-3])


@provokes("53300", "sorry, too many clients already")
def too_many_clients(make):
    banyan = make(limits={"max_clients": 1})
    with banyan.wire():
        return raw(banyan, startup({"user": "app", "database": banyan.database}))


@provokes("53300", 'too many connections for role "')
def too_many_of_a_role(make):
    banyan = make(limits={"max_clients_per_user": 1})
    with banyan.wire(), banyan.wire("md5_user"):
        return raw(banyan, startup({"user": "app", "database": banyan.database}))


@provokes("53300", "sorry, too many connections that have not logged in yet")
def too_many_strangers(make):
    banyan = make(limits={"max_unauthenticated": 2})
    strangers = [socket.create_connection(("127.0.0.1", banyan.port)) for _ in range(2)]
    error = raw(banyan)
    for stranger in strangers:
        stranger.close()
    return error


for text in ('connection to Banyan requires TLS for user "', "connection requires a valid client certificate",
             'certificate authentication failed for user "'):
    unit("28000", text, "tests/router/session/session_login_test.cpp", "SessionLogin.TheTransportMustSufficeForTheConfiguration")
unit("28000", "SCRAM authentication over TLS cannot be passed on: the verifiers of the ", "tests/router/session/mirror_login_test.cpp",
     "ScramLogin.WithoutVerifiersATranslationIsRefusedInPlainWords")


# --- the protocol ---

for name, kind in (("Parse", b"P"), ("Bind", b"B"), ("Describe", b"D"), ("Execute", b"E"), ("Close", b"C")):
    provokes("08P01", f"malformed {name} message")(lambda make, kind=kind: said_in_session(mirroring(make), message(kind)))


@provokes("08P01", "invalid message length")
def length_3(make):
    return said_in_session(make(), b"Q\0\0\0\3")


@provokes("08P01", "invalid frontend message type ")
def unknown_type(make):
    return said_in_session(make(), message(b"!"))


@provokes("08P01", "unexpected message during COPY from stdin")
def query_in_copy(make):
    client = mirroring(make).wire()
    client.send(query("copy t from stdin"))
    assert client.reply(b"G")
    client.send(query("select 1"))
    return last_words(client)


unit("08P01", "the database server sent ", "tests/router/session/session_relay_test.cpp", "SessionRelay.AReplyThatNothingExplainsEndsTheSession")


@provokes("0A000", "cached plan must not change result type")
def changed_columns(make):
    banyan = mirroring(make)
    with banyan.wire() as client:
        client.send(parse("insert into t values ($1, 'x') returning *", name="s"), bind([1], name="s"), execute(), SYNC)
        client.reply().ok()
        banyan.sql("alter table t add column more int")
        client.send(bind([2], name="s"), execute(), SYNC)
        return client.reply().errors[0]


@provokes("55000", "schema changes are refused in phase ")
def ddl_refused(make):
    banyan = mirroring(make, mirror={"ddl": "refuse"})
    with banyan.wire() as client:
        error = client.query("alter table t add column more int").errors[0]
        assert client.query("insert into t values (1, 'x')").ok().status == "I"
    return error


@provokes("40001", "the transaction was rolled back: the mirror did not take part in it")
def mirror_refuses_a_row(make):
    banyan = mirroring(make, mirror={"on_mirror_failure": "reject"})
    banyan.target.sql("alter table t rename to other", banyan.database)
    with banyan.wire() as client:
        error = client.query("insert into t values (1, 'x')").errors[0]
        assert client.value("select count(*) from t") == "0"
    return error


@provokes("40001", "writes are refused while the mirror does not take part")
def no_mirror_to_take_part(make):
    banyan = mirroring(make, mirror={"on_mirror_failure": "reject"})
    banyan.target.sql(f'revoke connect on database "{banyan.database}" from public, app', banyan.database)
    with banyan.wire() as client:
        client.query("insert into t values (1, 'x')")  # its login to the mirror may still be under way
        error = client.query("insert into t values (1, 'x')").errors[0]
        assert client.value("select count(*) from t") == "0"
    return error


# --- limits ---

@provokes("25P03", "terminating connection due to idle-in-transaction timeout")
def idle_in_a_block(make):
    client = make(limits={"idle_in_transaction_timeout_ms": 300}).wire()
    client.query("begin").ok()
    assert client.query("select pg_sleep(0.6)").ok().status == "T"  # busy is not idle
    return last_words(client)


@provokes("53400", "too many prepared statements")
def a_statement_too_many(make):
    with mirroring(make, limits={"max_prepared_statements": 1}).wire() as client:
        client.send(parse("select 1", name="one"), parse("select 2", name="two"), bind(name="two"), execute(), SYNC)
        reply = client.reply()
        assert reply.kinds == "1EZ"
        client.send(bind(name="one"), execute(), SYNC)
        assert client.reply().ok().texts() == [("1",)]
        return reply.errors[0]


@provokes("53200", "out of memory: the rows of a portal that is fetched in pieces take more than ")
def rows_in_pieces(make):
    banyan = mirroring(make, limits={"max_session_bytes": 1048576})
    error = said_in_session(banyan, parse("insert into t select g, repeat('x', 1000) from generate_series(1, 3000) g returning v"), bind(),
                            execute(rows=1), SYNC)
    assert banyan.source.sql("select count(*) from t", banyan.database) == [(0,)]
    return error


# --- the databases and the operator ---

@provokes("57P01", "terminating connection due to administrator command")
def shutdown(make):
    banyan = make()
    client = banyan.wire()
    banyan.process.send_signal(signal.SIGTERM)
    error = last_words(client)
    assert banyan.process.wait(20) == 0
    return error


@provokes("57P01", "terminating connection: another Banyan is in charge of this migration")
def superseded(make):
    banyan = mirroring(make, lease={"ttl_ms": 1000})
    client = banyan.wire()
    banyan.source.sql("update banyan.lease set holder = 'another', epoch = epoch + 1, renewed_at = clock_timestamp()", banyan.database)
    error = last_words(client)
    assert raw(banyan, startup({"user": "app", "database": banyan.database})) == error  # nor is anyone let in
    return error


@provokes("57P01", "terminating replication connection: the migration leaves the phase ")
def replication_when_mirroring_begins(make):
    banyan = make(SCHEMA)
    client = banyan.wire("postgres", replication="database")
    banyan.admin.transition("DUAL_WRITE")
    return last_words(client)


unit("53200", "out of memory", "tests/e2e/test_scarcity.py", "test_a_session_that_needs_more_memory_than_there_is_ends_alone")
unit("08001", "could not connect to the ", "tests/router/session/session_login_test.cpp", "SessionLogin.AnUnreachablePrimaryIs08001AndALostOne57P01")
unit("57P01", "the connection to the database server was lost: ", "tests/router/session/session_login_test.cpp",
     "SessionLogin.AnUnreachablePrimaryIs08001AndALostOne57P01")
unit("57P01", "terminating connection: the migration switched over and this session has no connection to the new primary",
     "tests/router/session/transition_test.cpp", "Transition.ASessionWithoutTheNewPrimaryEndsWith57P01")
unit("57P01", "terminating connection: the migration switched over, and only Banyan's service role is logged in to the new primary",
     "tests/router/session/mirror_login_test.cpp", "ServiceRole.NeverBecomesTheClientsPrimary")
unit("57P01", "terminating connection: the migration moves to the ", "tests/router/session/crossing_test.cpp",
     "Crossing.AHoldThatEndsWhatBlocksEndsItWith57P01")
unit("57P01", "terminating connection: this session could not be moved to the new primary: ", "tests/router/session/crossing_test.cpp",
     "Crossing.ASessionThatCannotBeMovedIsEndedNotLeftHalfMoved")
unit("57P01", "terminating connection: the new primary was lost during the switchover", "tests/router/session/transition_test.cpp",
     "Transition.ANewPrimaryLostInTheMiddleOfTheFlipIs57P01")
unit("40001", "the transaction was rolled back: its keys could not be journaled", "tests/router/session/reject_test.cpp",
     "Reject.AJournalThatCannotBeWrittenFailsTheTransaction")


# --- the three agree ---

@pytest.mark.short
def test_the_table_names_every_error_that_the_code_can_send():
    pairs, codes = in_code()
    assert pairs == in_readme()
    assert codes <= {code for code, _ in pairs}, "a SQLSTATE in the code that is not in an error the test can read"


@pytest.mark.short
def test_every_row_of_the_table_has_a_test():
    assert set(PROVOKERS) == set(ROWS)


@pytest.mark.short
@pytest.mark.parametrize("code,text", ROWS, ids=[f"{code} {text.strip()}" for code, text in ROWS])
def test_it_is_sent_as_the_table_says(migration, code, text):
    error = PROVOKERS[code, text](migration)
    if error is not None:
        assert error["C"] == code and error["M"].startswith(text), error
        assert error["S"] == ("ERROR" if code in ("53400", "40001", "55000") or text.startswith("cached plan") else "FATAL")
