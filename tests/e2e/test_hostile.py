"""Garbage, half messages and absurd lengths on the client port hurt nobody else."""
import random
import socket
import struct

import pytest

from wire import SYNC, Closed, WireError, message, parse, query, startup

LOGIN = startup({"user": "app", "database": "DATABASE"})
GARBAGE = {
    "nothing at all": b"",
    "one byte": b"\0",
    "zeros": b"\0" * 4096,
    "noise": random.Random(1).randbytes(5000),
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500,
    "a startup of length 0": struct.pack("!I", 0) + b"x" * 20,
    "a startup of length 3": struct.pack("!I", 3),
    "a startup of 4 GB": struct.pack("!II", 0xFFFFFFFF, 196608),
    "a startup of 2 GB": struct.pack("!II", 0x7FFFFFFF, 196608),
    "a startup without its terminator": struct.pack("!II", 17, 196608) + b"user\0app",
    "a startup with an odd number of strings": struct.pack("!II", 14, 196608) + b"user\0\0",
    "a startup without a user": startup({"database": "x"}),
    "half a startup": startup({"user": "app", "database": "DATABASE"})[:-7],
    "protocol 2": struct.pack("!II", 296, 131072) + b"\0" * 288,
    "SSLRequest for ever": struct.pack("!II", 8, 80877103) * 50,
    "SSLRequest with bytes behind it": struct.pack("!II", 8, 80877103) + LOGIN,
    "GSSENCRequest for ever": struct.pack("!II", 8, 80877104) * 50,
    "a cancel of nobody": struct.pack("!IIII", 16, 80877102, 12345, 6789),
    "a short cancel": struct.pack("!II", 8, 80877102),
    "a message before the login ends": LOGIN + b"",
}
AFTER_LOGIN = {
    "an unknown message": message(b"!", b"x"),
    "length 0": b"Q\0\0\0\0",
    "length 3": b"Q\0\0\0\3",
    "length 4 GB": b"Q\xff\xff\xff\xff",
    "length 2 GB": b"P\x7f\xff\xff\xff",
    "a query without its terminator": message(b"Q", b"select 1"),
    "a query with bytes behind the terminator": message(b"Q", b"select 1\0select 2\0"),
    "an empty query message": message(b"Q", b""),
    "half a query": query("select 1")[:-3],
    "half a header": b"Q\0\0",
    "a parse of nothing": message(b"P", b""),
    "a parse with too many types": message(b"P", b"\0select 1\0\xff\xff"),
    "a bind of nothing": message(b"B", b"") + SYNC,
    "a bind with an absurd count": parse("select 1") + message(b"B", b"\0\0\0\0\xff\xff") + SYNC,
    "a bind with an absurd length": parse("select $1") + message(b"B", b"\0\0\0\0\0\1\x7f\xff\xff\xff\0\0") + SYNC,
    "a bind with a negative length": parse("select $1") + message(b"B", b"\0\0\0\0\0\1\xff\xff\xff\x00\0\0") + SYNC,
    "an execute of nothing": message(b"E", b"") + SYNC,
    "a describe of neither": message(b"D", b"X\0") + SYNC,
    "a close of neither": message(b"C", b"X\0") + SYNC,
    "a password nobody asked for": message(b"p", b"secret\0"),
    "copy data outside of a copy": message(b"d", b"1\n") * 3 + query("select 1"),
    "a second startup": LOGIN,
    "a server's message": message(b"Z", b"I"),
    "a sync with a body": message(b"S", b"xxxx"),
    "noise": random.Random(2).randbytes(20000),
    "a message in single bytes": None,
}


@pytest.fixture(params=["INITIAL", "DUAL_READ"])
def banyan(request, migration):
    made = migration("create table t (id int primary key, v text)", "insert into t select generate_series(1, 10)", limits={"login_timeout_ms": 1500})
    made.lead_to(request.param)
    return made


def assert_unharmed(banyan, bystander):
    assert banyan.process.poll() is None, banyan.log()[-3000:]
    assert bystander.value("select count(*) from t") == "10"
    with banyan.wire() as newcomer:
        assert newcomer.value("select 1") == "1"
    assert banyan.admin.request("GET", "/readyz")[0] == 200


@pytest.mark.short
def test_garbage_instead_of_a_login_hurts_nobody(banyan):
    with banyan.wire() as bystander:
        open_sockets = []
        for name, data in GARBAGE.items():
            data = data.replace(b"DATABASE", banyan.database.encode().ljust(8, b"x")[:8])
            connection = socket.create_connection(("127.0.0.1", banyan.port), timeout=10)
            try:
                connection.sendall(data)
            except OSError:
                pass  # refused already
            open_sockets.append((name, connection))
        assert_unharmed(banyan, bystander)
        # Each is closed by Banyan in the end, by the login timeout at the latest.
        for name, connection in open_sockets:
            if name == "a message before the login ends":
                continue
            try:
                while connection.recv(65536):
                    pass
            except ConnectionResetError:
                pass
            except socket.timeout:
                pytest.fail(f"{name}: still open after the login timeout")
        for _, connection in open_sockets:
            connection.close()
        assert_unharmed(banyan, bystander)


@pytest.mark.short
def test_garbage_in_a_session_hurts_nobody(banyan):
    with banyan.wire() as bystander:
        for name, data in AFTER_LOGIN.items():
            client = banyan.wire()
            client.socket.settimeout(5)
            if data is None:
                for byte in query("select 1") + parse("select 2") + SYNC:
                    client.send(bytes([byte]))
                assert client.reply().ok().texts() == [("1",)], name
                client.reply().ok()
            else:
                try:
                    client.send(data, SYNC)
                    client.socket.shutdown(socket.SHUT_WR)
                    client.wait_closed(5)  # an error or not, it ends
                except (Closed, ConnectionError):
                    pass
                except socket.timeout:
                    pytest.fail(f"{name}: neither answered nor closed after the client's end")
            client.socket.close()
            assert_unharmed(banyan, bystander)


def test_a_client_that_does_not_read_holds_up_nobody_else(banyan):
    with banyan.wire() as bystander:
        deaf = banyan.wire()
        deaf.send(*[query("select repeat('x', 100000) from generate_series(1, 500)")] * 3)
        for _ in range(20):
            assert bystander.value("select count(*) from t") == "10"
        deaf.socket.close()
        assert_unharmed(banyan, bystander)


def test_a_message_beyond_the_limit_is_refused(migration):
    banyan = migration(limits={"max_message_bytes": 65536})
    with banyan.wire() as client:
        try:
            client.send(b"Q" + struct.pack("!I", 10 ** 9))
            said = client.wait_closed()
            assert [kind for kind, _ in said][:1] in ([], [b"E"]), said
        except (Closed, ConnectionError):
            pass
    with banyan.wire() as client:
        assert client.value("select 1") == "1"


def test_more_clients_than_allowed_are_refused_in_plain_words(migration):
    banyan = migration(limits={"max_clients": 3})
    clients = [banyan.wire() for _ in range(3)]
    with pytest.raises((WireError, Closed)) as refused:
        banyan.wire()
    if isinstance(refused.value, WireError):
        assert refused.value.sqlstate == "53300"
    clients.pop().close()
    from kit import wait_until

    def admitted():
        try:
            banyan.wire().close()
            return True
        except (WireError, Closed):
            return False

    wait_until(admitted, "there is room again")
    for client in clients:
        client.close()
