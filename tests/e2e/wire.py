"""A PostgreSQL client that shows every message: the frontend/backend protocol 3.0 by hand.

Used where libpq hides what matters: extended messages, pipelines, binary formats, broken input, and
comparing Banyan's bytes with the server's own.
"""
import base64
import hashlib
import hmac
import os
import socket
import struct


class WireError(Exception):
    """The server's ErrorResponse, or a connection that ended."""

    def __init__(self, fields):
        super().__init__(f"{fields.get('C')}: {fields.get('M')}")
        self.fields = fields
        self.sqlstate = fields.get("C")


class Closed(Exception):
    pass


def cstring(text):
    return (text if isinstance(text, bytes) else text.encode()) + b"\0"


def message(kind, body=b""):
    return kind + struct.pack("!I", len(body) + 4) + body


def startup(parameters, version=196608):
    body = struct.pack("!I", version) + b"".join(cstring(k) + cstring(v) for k, v in parameters.items()) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def query(sql):
    return message(b"Q", cstring(sql))


def parse(sql, name="", types=()):
    return message(b"P", cstring(name) + cstring(sql) + struct.pack(f"!H{len(types)}I", len(types), *types))


def bind(parameters=(), name="", portal="", formats=(), results=()):
    body = cstring(portal) + cstring(name) + struct.pack(f"!H{len(formats)}H", len(formats), *formats)
    body += struct.pack("!H", len(parameters))
    for value in parameters:
        if value is None:
            body += struct.pack("!i", -1)
        else:
            value = value if isinstance(value, bytes) else str(value).encode()
            body += struct.pack("!I", len(value)) + value
    return message(b"B", body + struct.pack(f"!H{len(results)}H", len(results), *results))


def describe(kind="P", name=""):
    return message(b"D", kind.encode() + cstring(name))


def execute(portal="", rows=0):
    return message(b"E", cstring(portal) + struct.pack("!I", rows))


def close(kind="S", name=""):
    return message(b"C", kind.encode() + cstring(name))


SYNC, FLUSH, TERMINATE = message(b"S"), message(b"H"), message(b"X")
COPY_DONE = message(b"c")


def copy_data(data):
    return message(b"d", data)


def copy_fail(reason):
    return message(b"f", cstring(reason))


def fields_of(body):
    """ErrorResponse or NoticeResponse: {code letter: text}."""
    return {part[:1].decode(): part[1:].decode(errors="replace") for part in body.split(b"\0") if part}


def row_of(body):
    count, offset, values = struct.unpack_from("!H", body)[0], 2, []
    for _ in range(count):
        size = struct.unpack_from("!i", body, offset)[0]
        offset += 4
        values.append(None if size < 0 else body[offset:offset + size])
        offset += max(size, 0)
    return values


def columns_of(body):
    """RowDescription: [(name, type oid, format)]."""
    count, offset, columns = struct.unpack_from("!H", body)[0], 2, []
    for _ in range(count):
        end = body.index(b"\0", offset)
        name = body[offset:end].decode()
        _, _, kind, _, _, form = struct.unpack_from("!IhIhih", body, end + 1)
        columns.append((name, kind, form))
        offset = end + 1 + 18
    return columns


class Reply:
    """Everything up to and including a ReadyForQuery."""

    def __init__(self, messages):
        self.messages = messages
        self.rows = [row_of(body) for kind, body in messages if kind == b"D"]
        self.tags = [body[:-1].decode() for kind, body in messages if kind == b"C"]
        self.errors = [fields_of(body) for kind, body in messages if kind == b"E"]
        self.notices = [fields_of(body) for kind, body in messages if kind == b"N"]
        self.columns = next((columns_of(body) for kind, body in messages if kind == b"T"), [])
        self.copy = b"".join(body for kind, body in messages if kind == b"d")
        self.status = messages[-1][1].decode() if messages and messages[-1][0] == b"Z" else None
        self.kinds = b"".join(kind for kind, _ in messages).decode()

    def texts(self):
        return [tuple(None if value is None else value.decode() for value in row) for row in self.rows]

    def ok(self):
        if self.errors:
            raise WireError(self.errors[0])
        return self


class Wire:
    """One connection. Authentication as libpq does it: trust, password, md5, SCRAM-SHA-256."""

    def __init__(self, port, user="app", database="app", password="", timeout=30, login=True, **parameters):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.parameters = {}
        self.process_id = self.secret = None
        self.methods = []
        if login:
            try:
                self.login(user, database, password, parameters)
            except BaseException:
                self.socket.close()
                raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        try:
            self.socket.sendall(TERMINATE)
        except OSError:
            pass
        self.socket.close()

    # --- bytes ---

    def send(self, *messages):
        self.socket.sendall(b"".join(messages))

    def fill(self, size):
        while len(self.buffer) < size:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Closed(f"closed; {self.buffer!r} left")
            self.buffer += data

    def receive(self):
        self.fill(5)
        size = struct.unpack("!I", self.buffer[1:5])[0]
        self.fill(size + 1)
        kind, body, self.buffer = self.buffer[:1], self.buffer[5:size + 1], self.buffer[size + 1:]
        return kind, body

    def wait_closed(self, seconds=10):
        """Reads until the peer closes; returns the messages that came before."""
        self.socket.settimeout(seconds)
        messages = []
        try:
            while True:
                messages.append(self.receive())
        except Closed:
            return messages

    def reply(self, until=b"Z"):
        messages = []
        while True:
            kind, body = self.receive()
            if kind == b"S":
                name, value = body.split(b"\0")[:2]
                self.parameters[name.decode()] = value.decode()
            messages.append((kind, body))
            if kind in until:
                return Reply(messages)

    # --- login ---

    def login(self, user, database, password, parameters):
        self.send(startup({"user": user, "database": database, **parameters}))
        scram = None
        while True:
            kind, body = self.receive()
            if kind == b"E":
                raise WireError(fields_of(body))
            if kind == b"S":
                name, value = body.split(b"\0")[:2]
                self.parameters[name.decode()] = value.decode()
            elif kind == b"K":
                self.process_id, self.secret = struct.unpack("!II", body)
            elif kind == b"Z":
                return
            elif kind == b"R":
                method = struct.unpack("!I", body[:4])[0]
                self.methods.append(method)
                if method == 3:
                    self.send(message(b"p", cstring(password)))
                elif method == 5:
                    inner = hashlib.md5((password + user).encode()).hexdigest().encode()
                    self.send(message(b"p", cstring("md5" + hashlib.md5(inner + body[4:8]).hexdigest())))
                elif method == 10:
                    assert b"SCRAM-SHA-256\0" in body, body
                    scram = Scram(password)
                    first = scram.first()
                    self.send(message(b"p", cstring("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first))
                elif method == 11:
                    self.send(message(b"p", scram.final(body[4:])))
                elif method == 12:
                    scram.verify(body[4:])

    # --- conveniences ---

    def query(self, sql):
        """Simple protocol."""
        self.send(query(sql))
        return self.reply()

    def extended(self, sql, parameters=(), types=(), formats=(), results=(), sync=True):
        self.send(parse(sql, types=types), bind(parameters, formats=formats, results=results), describe(), execute(),
                  SYNC if sync else FLUSH)
        return self.reply()

    def value(self, sql, parameters=None):
        reply = self.query(sql) if parameters is None else self.extended(sql, parameters)
        return reply.ok().texts()[0][0]


def cancel(port, process_id, secret):
    """Sends a CancelRequest and waits until the peer closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(struct.pack("!IIII", 16, 80877102, process_id, secret))
        while connection.recv(1024):
            pass


class Scram:
    def __init__(self, password):
        self.password = password.encode()
        self.nonce = base64.b64encode(os.urandom(18)).decode()

    def first(self):
        self.bare = f"n=,r={self.nonce}"
        return ("n,," + self.bare).encode()

    def final(self, challenge):
        text = challenge.decode()
        parts = dict(part.split("=", 1) for part in text.split(","))
        assert parts["r"].startswith(self.nonce)
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(parts["s"]), int(parts["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = "c=biws,r=" + parts["r"]
        signed = f"{self.bare},{text},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.server = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        return (without_proof + ",p=" + base64.b64encode(proof).decode()).encode()

    def verify(self, answer):
        assert base64.b64decode(answer.decode().split("v=", 1)[1]) == self.server, "the server does not know the password"
