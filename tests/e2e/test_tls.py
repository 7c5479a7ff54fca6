"""TLS between clients and Banyan, and between Banyan and the two servers."""
import os
import shutil
import signal
import socket
import ssl
import struct
import threading
import time

import psycopg2
import pytest

import kit
import wire
from certificates import Authority
from kit import wait_until

SSL_REQUEST = struct.pack("!II", 8, 80877103)
TLS_HBA = """
local all all trust
hostssl all cert_user 127.0.0.1/32 trust clientcert=verify-ca
hostssl all scram_user 127.0.0.1/32 scram-sha-256
hostssl all all 127.0.0.1/32 trust
"""


@pytest.fixture(scope="module")
def authority(room):
    return Authority(room / "authority")


@pytest.fixture(scope="module")
def stranger(room):
    """An authority that nobody trusts."""
    return Authority(room / "stranger", "stranger")


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.sign("banyan", "banyan", ["DNS:localhost", "IP:127.0.0.1"])


@pytest.fixture
def tls(migration, authority, certificate):
    """tls(sslmode, **listen) -> a Banyan with TLS for its clients."""
    def make(sslmode="allow", schema="", **listen):
        return migration(schema, listen={"sslmode": sslmode, "ssl_cert_file": certificate[0], "ssl_key_file": certificate[1],
                                         "ssl_ca_file": authority.crt, **listen})
    return make


def connect(banyan, user="app", **options):
    connection = psycopg2.connect(banyan.dsn(user), **{"gssencmode": "disable", **options})
    connection.autocommit = True
    return connection


def one(connection, sql):
    with connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def raw(banyan):
    return socket.create_connection(("127.0.0.1", banyan.port), timeout=20 * kit.SLOW)


def trusting(alpn=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols([alpn])
    return context


def test_disable_refuses_tls_and_serves_without(migration):
    banyan = migration()
    assert one(connect(banyan, sslmode="prefer"), "select 1") == 1
    with pytest.raises(psycopg2.OperationalError, match="does not support SSL"):
        connect(banyan, sslmode="require")


@pytest.mark.short
def test_allow_serves_both_and_the_certificate_is_verifiable(tls, authority, stranger):
    banyan = tls("allow")
    for options in ({"sslmode": "disable"}, {"sslmode": "require"}, {"sslmode": "verify-ca", "sslrootcert": authority.crt},
                    {"sslmode": "verify-full", "sslrootcert": authority.crt}):
        connection = connect(banyan, **{key: str(value) for key, value in options.items()})
        assert one(connection, "select 1") == 1
        assert bool(connection.info.ssl_in_use) == (options["sslmode"] != "disable")
        connection.close()
    with pytest.raises(psycopg2.OperationalError, match="certificate verify failed"):
        connect(banyan, sslmode="verify-ca", sslrootcert=str(stranger.crt))


def test_require_names_the_way_out_to_clients_without_tls(tls):
    banyan = tls("require")
    with pytest.raises(wire.WireError) as refused:
        banyan.wire()
    assert refused.value.sqlstate == "28000" and "requires TLS" in str(refused.value)
    assert "sslmode=require" in refused.value.fields["H"]
    assert one(connect(banyan, sslmode="require"), "select 1") == 1


def test_verify_ca_wants_a_certificate_of_the_authority(tls, authority, stranger):
    banyan = tls("verify-ca")
    crt, key = authority.sign("anybody", "anybody")
    assert one(connect(banyan, sslmode="require", sslcert=str(crt), sslkey=str(key)), "select 1") == 1
    with pytest.raises(psycopg2.OperationalError, match="connection requires a valid client certificate"):
        connect(banyan, sslmode="require")
    crt, key = stranger.sign("anybody", "anybody")
    with pytest.raises(psycopg2.OperationalError, match="unknown ca|reset|closed"):
        connect(banyan, sslmode="require", sslcert=str(crt), sslkey=str(key))


def test_verify_full_wants_the_users_own_name(tls, authority):
    banyan = tls("verify-full")
    crt, key = authority.sign("app", "app")
    assert one(connect(banyan, sslmode="require", sslcert=str(crt), sslkey=str(key)), "select current_user") == "app"
    with pytest.raises(psycopg2.OperationalError, match='certificate authentication failed for user "postgres"'):
        connect(banyan, "postgres", sslmode="require", sslcert=str(crt), sslkey=str(key))


def test_tls_before_1_2_is_refused(tls):
    banyan = tls("allow")
    client = raw(banyan)
    client.sendall(SSL_REQUEST)
    assert client.recv(1) == b"S"
    context = trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(client)
    tight = tls("allow", ssl_min_protocol_version="TLSv1.3")
    with pytest.raises(psycopg2.OperationalError):
        connect(tight, sslmode="require", ssl_max_protocol_version="TLSv1.2")
    assert one(connect(tight, sslmode="require"), "select 1") == 1


def talk(sock, banyan, sql="select 42"):
    """The bytes that answer a startup packet and a query, to the second ReadyForQuery."""
    sock.sendall(wire.startup({"user": "app", "database": banyan.database}) + wire.query(sql))
    answer = b""
    while answer.count(b"Z\x00\x00\x00\x05I") < 2:
        more = sock.recv(65536)
        assert more, answer
        answer += more
    return answer


@pytest.mark.short
def test_direct_tls_needs_alpn(tls):
    banyan = tls("require")
    direct = trusting("postgresql").wrap_socket(raw(banyan))
    assert direct.selected_alpn_protocol() == "postgresql"
    assert b"42" in talk(direct, banyan)
    # An SSLRequest inside of TLS is no protocol version anybody speaks.
    again = trusting("postgresql").wrap_socket(raw(banyan))
    again.sendall(SSL_REQUEST)
    assert again.recv(1000) == b""
    with pytest.raises((ssl.SSLError, ConnectionError)):
        trusting("http/1.1").wrap_socket(raw(banyan))
    silent = trusting().wrap_socket(raw(banyan))  # no ALPN: the handshake may succeed, the connection does not
    with pytest.raises((AssertionError, ssl.SSLError, ConnectionError)):
        talk(silent, banyan)


def test_alpn_is_checked_for_requested_tls_too(tls):
    banyan = tls("allow")
    for name, fits in (("postgresql", True), ("h2", False)):
        client = raw(banyan)
        client.sendall(SSL_REQUEST)
        assert client.recv(1) == b"S"
        if fits:
            assert b"42" in talk(trusting(name).wrap_socket(client), banyan)
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                trusting(name).wrap_socket(client)


@pytest.mark.short
def test_bytes_sent_together_with_the_request_for_tls_end_the_connection(tls):
    """CVE-2021-23214: they could have been slipped in before the encrypted part."""
    banyan = tls("allow")
    client = raw(banyan)
    client.sendall(SSL_REQUEST + wire.startup({"user": "app", "database": banyan.database}))
    received = b""
    with pytest.raises(ConnectionError):
        while more := client.recv(1000):
            received += more
        raise ConnectionResetError
    assert received in (b"", b"S")
    assert banyan.sql("select 1") == [(1,)]


@pytest.mark.short
def test_handshakes_that_break_off_at_every_byte_hurt_nobody(tls):
    """A ClientHello cut short anywhere, byte by byte, and garbage in its place."""
    banyan = tls("allow", schema="create table t (id int primary key)")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    unfinished = trusting("postgresql").wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        unfinished.do_handshake()
    opening = outgoing.read()
    for cut in range(0, len(opening), 7):
        for prefix in (b"", SSL_REQUEST):
            with raw(banyan) as client:
                client.sendall(prefix)
                if prefix:
                    assert client.recv(1) == b"S"
                client.sendall(opening[:cut])
    for garbage in (b"\x16" + b"\0" * 50, b"\x16\x03\x01\xff\xff" + b"A" * 70000, os.urandom(5000)):
        with raw(banyan) as client:
            client.sendall(SSL_REQUEST)
            assert client.recv(1) == b"S"
            try:
                client.sendall(garbage)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
            except OSError:
                pass
    # Slowly, one byte at a time, it works.
    with raw(banyan) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(SSL_REQUEST)
        assert client.recv(1) == b"S"
        for byte in opening:
            client.sendall(bytes([byte]))
        incoming.write(client.recv(65536))
        with pytest.raises((ssl.SSLWantReadError, ssl.SSLError)) as waits:
            while True:
                unfinished.do_handshake()
                break
            raise ssl.SSLWantReadError
        assert isinstance(waits.value, ssl.SSLWantReadError)
    assert banyan.sql("select 1") == [(1,)]
    wait_until(lambda: not banyan.admin.get("/sessions")["sessions"], lambda: banyan.admin.get("/sessions"), 20 * kit.SLOW)


def test_a_handshake_that_stalls_ends_at_the_login_deadline(migration, authority, certificate):
    banyan = migration(listen={"sslmode": "allow", "ssl_cert_file": certificate[0], "ssl_key_file": certificate[1]},
                       limits={"login_timeout_ms": 300})
    with raw(banyan) as client:
        client.sendall(SSL_REQUEST)
        assert client.recv(1) == b"S"
        client.sendall(b"\x16\x03\x01")
        assert client.recv(1000) == b""


def write_and_compare(banyan, **options):
    """Rows big and small, both ways through TLS, equal on both sides."""
    big = "x" * 3_000_000
    connection = connect(banyan, **options)
    with connection.cursor() as cursor:
        cursor.execute("insert into t values (1, %s), (2, 'small')", (big,))
        cursor.execute("select v from t where id = 1")
        assert cursor.fetchone()[0] == big
        cursor.execute("select repeat('y', 1000) from generate_series(1, 20000)")
        assert sum(len(row[0]) for row in cursor.fetchall()) == 20_000_000
        cursor.execute("update t set v = 'changed' where id = 2")
    connection.close()
    banyan.settle_and_compare()


def test_rows_and_results_of_megabytes_pass_through_tls(tls):
    banyan = tls("require", schema="create table t (id int primary key, v text)")
    banyan.lead_to("DUAL_WRITE")
    write_and_compare(banyan, sslmode="require")


@pytest.mark.short
def test_a_cancel_request_over_tls_ends_the_query(tls):
    banyan = tls("require")
    connection = connect(banyan, sslmode="require")
    pid = one(connection, "select pg_backend_pid()")
    ended = []

    def sleeper():
        with pytest.raises(psycopg2.errors.QueryCanceled):
            one(connection, "select pg_sleep(60)")
        ended.append(True)

    thread = threading.Thread(target=sleeper)
    thread.start()
    wait_until(lambda: banyan.source.sql(f"select 1 from pg_stat_activity where pid = {pid} and state = 'active' and query like '%sleep%'"),
               "the query runs", 20 * kit.SLOW)
    connection.cancel()  # libpq 15 sends it without TLS, which PostgreSQL takes as well
    thread.join(20 * kit.SLOW)
    assert ended
    connection.close()


def test_certificates_are_read_again_on_sighup(room, migration, authority, stranger):
    crt, key = room / "reload.crt", room / "reload.key"
    first = authority.sign("first", "first", ["IP:127.0.0.1"])
    second = stranger.sign("second", "second", ["IP:127.0.0.1"])

    def put(pair):
        for file, copy in zip(pair, (crt, key)):
            shutil.copy(file, copy)

    put(first)
    banyan = migration(listen={"sslmode": "require", "ssl_cert_file": crt, "ssl_key_file": key})
    old = connect(banyan, sslmode="verify-ca", sslrootcert=str(authority.crt))
    put(second)
    banyan.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "read again" in banyan.log(), banyan.log, 20 * kit.SLOW)
    assert one(connect(banyan, sslmode="verify-ca", sslrootcert=str(stranger.crt)), "select 1") == 1
    assert one(old, "select 1") == 1
    crt.write_text("no certificate")
    banyan.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "stay as they were" in banyan.log(), banyan.log, 20 * kit.SLOW)
    assert one(connect(banyan, sslmode="verify-ca", sslrootcert=str(stranger.crt)), "select 1") == 1


@pytest.mark.parametrize("broken, words", [
    ({"ssl_cert_file": "/no/such/file"}, "ssl_cert_file"), ({"ssl_key_file": "/no/such/file"}, "ssl_key_file"),
    ({"ssl_ca_file": "/no/such/file"}, "ssl_ca_file")])
def test_files_that_cannot_be_used_are_named_at_the_start(migration, authority, certificate, broken, words):
    banyan = migration(start=False, listen={"sslmode": "require", "ssl_cert_file": certificate[0], "ssl_key_file": certificate[1],
                                            "ssl_ca_file": authority.crt, **broken})
    banyan.start(ready=False)
    assert banyan.process.wait(20) == 1
    banyan.process = None
    assert words in banyan.log() and "/no/such/file" in banyan.log() and "No such file" in banyan.log()


def test_a_key_that_others_may_read_is_refused(room, migration, certificate):
    key = room / "open.key"
    shutil.copy(certificate[1], key)
    key.chmod(0o644)
    banyan = migration(start=False, listen={"sslmode": "require", "ssl_cert_file": certificate[0], "ssl_key_file": key})
    banyan.start(ready=False)
    assert banyan.process.wait(20) == 1
    banyan.process = None
    assert "may be read by others" in banyan.log()


# --- to the servers ---

@pytest.fixture(scope="module")
def tls_clusters(room, authority):
    """A source and a target that take nothing but TLS on TCP."""
    clusters = []
    for name in ("tls-source", "tls-target"):
        cluster = kit.Cluster(room / name, hba=TLS_HBA.replace("hostssl all all", "host all all"))
        cluster.sql("create role cert_user login; grant set on parameter session_replication_role to cert_user")
        cluster.use_tls(*authority.sign(name, name, ["DNS:localhost"]), ca=authority.crt)
        (cluster.directory / "pg_hba.conf").write_text(TLS_HBA)
        shutil.copy(cluster.directory / "pg_hba.conf", cluster.directory / "data" / "pg_hba.conf")
        cluster.sql("select pg_reload_conf()")
        clusters.append(cluster)
    yield clusters
    for cluster in clusters:
        cluster.close()


@pytest.fixture
def two_legs(room, tls_clusters, certificate):
    """two_legs(listen, endpoint) -> a Banyan between the two servers; `endpoint` goes into [source] and [target]."""
    made = []

    def make(listen=None, endpoint=None, start=True, schema="create table t (id int primary key, v text)"):
        name = f"legs{len(made)}_{time.monotonic_ns()}"
        for cluster in tls_clusters:
            cluster.create_database(name)
            cluster.sql(schema, name, "app")
            cluster.sql("grant all on t to scram_user, cert_user", name)
        banyan = kit.Banyan(room / name, *tls_clusters, name, users=("app", "scram_user", "cert_user"), listen=listen or {})
        for side in ("source", "target"):
            banyan.sections[side].update(endpoint or {})
        made.append(banyan)
        return banyan.start() if start else banyan

    yield make
    for banyan in made:
        banyan.close()
        for cluster in tls_clusters:
            cluster.drop_database(banyan.database)


@pytest.mark.short
@pytest.mark.parametrize("sslmode", ["require", "verify-ca", "verify-full"])
def test_both_servers_are_reached_over_tls(two_legs, authority, sslmode):
    banyan = two_legs(endpoint={"sslmode": sslmode, "host": "localhost", **({"sslrootcert": authority.crt} if sslmode != "require" else {})})
    assert banyan.sql("select ssl from pg_stat_ssl where pid = pg_backend_pid()") == [(True,)]
    banyan.lead_to("DUAL_WRITE")
    write_and_compare(banyan, sslmode="disable")
    banyan.lead_to("SWITCHOVER")
    assert banyan.sql("select ssl from pg_stat_ssl where pid = pg_backend_pid()") == [(True,)]
    plain = "select count(*) from pg_stat_activity join pg_stat_ssl using (pid) where client_port is not null and client_port > 0 and not ssl"
    for cluster in (banyan.source, banyan.target):
        assert cluster.sql(plain) == [(0,)]


def test_without_tls_the_servers_own_refusal_reaches_the_client(two_legs):
    banyan = two_legs(start=False)
    banyan.start(ready=False)
    wait_until(lambda: (banyan.directory / "port").exists() or banyan.process.poll() is not None, banyan.log, 20 * kit.SLOW)
    if banyan.process.poll() is None:
        banyan.port = int((banyan.directory / "port").read_text())
        with pytest.raises(wire.WireError) as refused:
            banyan.wire()
        assert refused.value.sqlstate == "28000" and "no encryption" in str(refused.value)
    else:
        banyan.process = None
        assert "no encryption" in banyan.log()


@pytest.mark.parametrize("endpoint, words", [
    ({"sslmode": "verify-ca"}, "certificate verify failed"),  # the stranger's root is filled in below
    ({"sslmode": "verify-full", "host": "127.0.0.1"}, "mismatch|does not match")])
def test_a_server_that_cannot_prove_itself_is_not_used(two_legs, authority, stranger, endpoint, words):
    root = stranger.crt if endpoint["sslmode"] == "verify-ca" else authority.crt
    banyan = two_legs(endpoint={"host": "localhost", **endpoint, "sslrootcert": root}, start=False)
    banyan.start(ready=False)
    wait_until(lambda: (banyan.directory / "port").exists() or banyan.process.poll() is not None, banyan.log, 20 * kit.SLOW)
    if banyan.process.poll() is not None:
        banyan.process = None
        pytest.fail(f"Banyan ended: {banyan.log()}")
    banyan.port = int((banyan.directory / "port").read_text())
    with pytest.raises(psycopg2.OperationalError, match=words):
        connect(banyan)


def test_banyan_shows_its_own_certificate_where_the_server_wants_one(two_legs, authority):
    crt, key = authority.sign("service", "banyan")
    with pytest.raises(wire.WireError, match="certificate"):
        two_legs(endpoint={"sslmode": "require", "host": "localhost"}).wire("cert_user")
    banyan = two_legs(endpoint={"sslmode": "require", "host": "localhost", "sslcert": crt, "sslkey": key})
    with banyan.wire("cert_user") as client:
        assert client.value("select current_user") == "cert_user"


def test_scram_from_a_client_without_tls_passes_to_a_server_with_it(two_legs):
    """The server offers SCRAM-SHA-256-PLUS, which ends at the proxy: the client must not see it."""
    banyan = two_legs(endpoint={"sslmode": "require", "host": "localhost"})
    with banyan.wire("scram_user") as client:
        assert client.value("select current_user") == "scram_user"


@pytest.mark.short
def test_scram_passes_with_tls_on_both_legs(two_legs, certificate):
    """libpq says that it could bind the channel; a server on TLS takes that for an attack, unless Banyan speaks for itself."""
    banyan = two_legs(listen={"sslmode": "require", "ssl_cert_file": certificate[0], "ssl_key_file": certificate[1]},
                      endpoint={"sslmode": "require", "host": "localhost"})
    direct = banyan.dsn("scram_user").replace(f"port={banyan.port}", f"port={banyan.source.port}")
    for phase in ("INITIAL", "DUAL_WRITE", "SWITCHOVER"):
        banyan.lead_to(phase)
        for options in ({}, {"channel_binding": "disable"}):
            connection = connect(banyan, "scram_user", sslmode="require", **options)
            assert one(connection, "select session_user") == "scram_user"
            with connection.cursor() as cursor:
                cursor.execute("insert into t values ((select coalesce(max(id), 0) + 1 from t), 'x')")
            connection.close()
        errors = []
        for dsn in (direct, banyan.dsn("scram_user")):
            with pytest.raises(psycopg2.OperationalError) as refused:
                psycopg2.connect(dsn, password="wrong", sslmode="require")
            errors.append(str(refused.value).split("FATAL:")[1])
        assert errors[0] == errors[1] and "password authentication failed" in errors[0]
    with pytest.raises(psycopg2.OperationalError, match="channel binding"):
        connect(banyan, "scram_user", sslmode="require", channel_binding="require")
    banyan.settle_and_compare()


def test_scram_on_both_legs_without_the_verifiers_is_refused_in_plain_words(two_legs, tls_clusters, certificate):
    for cluster in tls_clusters:
        cluster.sql("create role weak login")
    banyan = two_legs(listen={"sslmode": "require", "ssl_cert_file": certificate[0], "ssl_key_file": certificate[1]},
                      endpoint={"sslmode": "require", "host": "localhost", "user": "weak"})
    with pytest.raises(psycopg2.OperationalError) as refused:
        connect(banyan, "scram_user", sslmode="require")
    assert "permission denied for table pg_authid" in str(refused.value) and "channel_binding=disable" in str(refused.value)
    assert "cannot be read as \"weak\"" in banyan.log()
    assert one(connect(banyan, "scram_user", sslmode="require", channel_binding="disable"), "select session_user") == "scram_user"
    tls_clusters[0].sql("grant select on pg_authid to weak", banyan.database)
    assert one(connect(banyan, "scram_user", sslmode="require"), "select session_user") == "scram_user"


@pytest.mark.short
def test_a_cancel_request_goes_to_the_server_over_tls(two_legs):
    banyan = two_legs(endpoint={"sslmode": "require", "host": "localhost"})
    with banyan.wire() as client:
        thread = threading.Timer(0.5, lambda: wire.cancel(banyan.port, client.process_id, client.secret))
        client.send(wire.query("select pg_sleep(60)"))
        wait_until(lambda: banyan.source.sql("select 1 from pg_stat_activity where state = 'active' and query = 'select pg_sleep(60)'"),
                   "the query runs", 20 * kit.SLOW)
        thread.start()
        assert client.reply().errors[0]["C"] == "57014"
        thread.join()
