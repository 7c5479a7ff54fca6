"""How connections come in besides plain TCP: Unix sockets and the PROXY protocol."""
import os
import socket
import stat
import struct

import psycopg2
import pytest

import kit
import wire
from kit import wait_until

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def proxy_header(source="192.0.2.7", port=4711, command=1):
    addresses = socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", port, 5432)
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, 0x11, len(addresses)) + addresses


def through_socket(banyan, directory, **options):
    connection = psycopg2.connect(host=str(directory), port=banyan.port, user="app", dbname=banyan.database, **options)
    connection.autocommit = True
    return connection


def one(connection, sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


@pytest.mark.short
def test_clients_come_through_a_unix_socket_of_postgresqls_name(migration, room):
    directory = room / "sockets"
    directory.mkdir(exist_ok=True)
    banyan = migration("create table t (id int primary key)", listen={"unix_socket_directory": directory, "unix_socket_permissions": "0770"})
    path = directory / f".s.PGSQL.{banyan.port}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o770
    banyan.lead_to("DUAL_WRITE")
    connection = through_socket(banyan, directory)
    assert one(connection, "insert into t values (1) returning id") == 1
    assert [session["client"] for session in banyan.admin.get("/sessions")["sessions"]] == ["[local]"]
    # A query over the socket can be cancelled: libpq connects to the socket again.
    connection.cancel()
    connection.close()
    banyan.settle_and_compare()
    assert banyan.stop() == 0
    assert not path.exists()


def test_tls_is_neither_offered_nor_demanded_on_a_unix_socket(migration, room):
    from certificates import Authority
    authority = Authority(room / "entry-authority")
    crt, key = authority.sign("banyan", "banyan")
    banyan = migration(listen={"unix_socket_directory": room, "sslmode": "require", "ssl_cert_file": crt, "ssl_key_file": key})
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(room / f".s.PGSQL.{banyan.port}"))
        client.sendall(struct.pack("!II", 8, 80877103))
        assert client.recv(1) == b"N"
    assert one(through_socket(banyan, room), "select 1") == 1


def test_a_socket_left_behind_is_replaced_and_a_live_one_is_not(migration, room):
    directory = room / "left"
    directory.mkdir()
    banyan = migration(listen={"unix_socket_directory": directory})
    path = directory / f".s.PGSQL.{banyan.port}"
    banyan.kill9()
    assert path.exists()
    banyan.start()
    assert one(through_socket(banyan, directory), "select 1") == 1
    banyan.stop()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        banyan.start(ready=False)
        assert banyan.process.wait(20 * kit.SLOW) == 1
        banyan.process = None
        assert "another server listens there" in banyan.log() and path.exists()
    path.unlink()
    path.write_text("a file of somebody's")
    banyan.start(ready=False)
    assert banyan.process.wait(20 * kit.SLOW) == 1
    banyan.process = None
    assert "no socket" in banyan.log() and path.read_text() == "a file of somebody's"


@pytest.mark.short
def test_behind_a_load_balancer_sessions_show_the_clients_own_address(migration):
    banyan = migration(listen={"proxy_protocol": True})

    def client(header, login=True):
        connection = wire.Wire(banyan.port, "app", banyan.database, login=False)
        connection.socket.sendall(header)
        if login:
            connection.login("app", banyan.database, "", {})
        return connection

    with client(proxy_header()) as balanced:
        assert balanced.value("select 1") == "1"
        assert [session["client"] for session in banyan.admin.get("/sessions")["sessions"]] == ["192.0.2.7:4711"]
    with client(proxy_header(command=0)) as check:  # the balancer itself
        assert check.value("select 1") == "1"
    for bad in (b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n", wire.startup({"user": "app", "database": banyan.database}),
                proxy_header()[:12] + b"\x22" + proxy_header()[13:], SIGNATURE + b"\x21\x11\xff\xff"):
        with client(bad, login=False) as refused:
            assert refused.wait_closed() == []
    # In pieces, and together with what follows.
    whole = proxy_header() + wire.startup({"user": "app", "database": banyan.database}) + wire.query("select 7")
    for cut in range(1, len(proxy_header()) + 12):
        connection = wire.Wire(banyan.port, login=False)
        connection.socket.sendall(whole[:cut])
        connection.socket.sendall(whole[cut:])
        connection.reply()
        assert connection.reply().texts() == [("7",)]
        connection.close()


def test_a_client_that_sends_no_proxy_header_meets_the_login_deadline(migration):
    banyan = migration(listen={"proxy_protocol": True}, limits={"login_timeout_ms": 300})
    with socket.create_connection(("127.0.0.1", banyan.port), timeout=20) as client:
        client.sendall(SIGNATURE[:5])
        client.settimeout(20 * kit.SLOW)
        while client.recv(1000):
            pass


def test_keepalives_and_user_timeout_are_set_on_both_kinds_of_connections(migration):
    banyan = migration(tcp={"keepalives_idle_s": 77, "keepalives_interval_s": 7, "keepalives_count": 5, "user_timeout_ms": 77000})
    with banyan.wire() as client:
        assert client.value("select 1") == "1"
        # The kernel tells of its keepalive timers: -o shows them, the idle time counts down from 77 s.
        # A socket whose last data is not acknowledged yet shows another timer, so this takes a moment.
        wait_until(lambda: len(keepalive_timers(banyan.process.pid)) == 2, lambda: keepalive_timers(banyan.process.pid), 20 * kit.SLOW)
        assert all(50 < seconds <= 77 for seconds in keepalive_timers(banyan.process.pid))


def keepalive_timers(pid):
    """Remaining seconds of the keepalive timers of a process's established sockets, from /proc."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            name = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        if name.startswith("socket:["):
            inodes.add(name[8:-1])
    timers = []
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in list(table)[1:]:
            fields = line.split()
            kind, remaining = fields[5].split(":")
            if fields[9] in inodes and fields[3] == "01" and kind == "02":
                timers.append(int(remaining, 16) / os.sysconf("SC_CLK_TCK"))
    # Banyan's own connections to the servers (libpq's) have shorter ones.
    return [seconds for seconds in timers if seconds > 20]
