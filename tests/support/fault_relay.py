"""A TCP relay that misbehaves on command, between a client and a PostgreSQL server (or Banyan).

One thread owns all sockets; commands are handed to it and have happened when they return. A direction
is "to_server" or "to_client". It reads just enough of the protocol to know messages: where they
begin and end, what the startup message asked for, and which message commits. TLS passes unread.
"""
import collections
import contextlib
import re
import selectors
import socket
import struct
import threading
import time

DIRECTIONS = ("to_server", "to_client")
LIMIT = 1 << 16  # read but not forwarded, per direction
COMMITS = re.compile(rb"\s*(commit|end)\b", re.IGNORECASE)
WRITES = re.compile(rb"\s*(insert|update|delete|merge|truncate|with)\b", re.IGNORECASE)


def reset(sock):
    """Closes it so that the peer gets a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Framer:
    """Cuts one direction into messages; `on_message(type, body, end)` with the stream offset behind each."""

    def __init__(self, startup, on_message):
        self.startup, self.on_message = startup, on_message
        self.buffer, self.offset, self.blind = b"", 0, False

    def feed(self, data):
        if self.blind:
            return
        self.buffer += data
        while True:
            head = 0 if self.startup else 1
            if len(self.buffer) < head + 4:
                return
            size = head + struct.unpack_from("!I", self.buffer, head)[0]
            if len(self.buffer) < size:
                return
            whole, self.buffer = self.buffer[:size], self.buffer[size:]
            self.offset += size
            self.on_message(whole[:1] if head else b"", whole[head + 4:], self.offset)
            if self.blind:
                return


class Pipe:
    """One direction of one connection."""

    def __init__(self, source, sink, framer):
        self.source, self.sink, self.framer = source, sink, framer
        self.pending = b""
        self.received = self.sent = 0
        self.ended = self.ended_sink = False
        self.stalled = False
        self.stop_at, self.then = None, None  # the stream offset at which something happens, and what
        self.next_drip = 0.0


class Connection:
    def __init__(self, relay, client, server):
        self.relay, self.client, self.server = relay, client, server
        self.connecting = True
        self.parameters = {}  # of the startup message
        self.status = b""  # of the last ReadyForQuery
        self.wrote, self.writers, self.asked_tls, self.swallowing = False, set(), False, False
        self.pipes = {"to_server": Pipe(client, server, Framer(True, self.from_client)),
                      "to_client": Pipe(server, client, Framer(False, self.from_server))}

    # --- messages ---

    def from_client(self, kind, body, end):
        if kind == b"":
            version = struct.unpack_from("!I", body)[0]
            if version in (80877103, 80877104):  # SSLRequest, GSSENCRequest: answered by one byte
                self.asked_tls = True
            elif version >> 16 != 3:  # a CancelRequest: nothing follows
                self.pipes["to_server"].framer.blind = True
            else:
                parts = body[4:].split(b"\0")
                self.parameters = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in zip(parts[::2], parts[1::2]) if name}
                self.pipes["to_server"].framer.startup = False
            return
        if self.commits(kind, body):
            self.relay.committing(self, end)

    def commits(self, kind, body):
        """Whether a transaction that may have written ends with this message, for good."""
        if kind == b"Q":
            self.wrote = False
            return bool(COMMITS.match(body)) or (self.status == b"I" and bool(WRITES.match(body)))
        if kind == b"P":
            name, sql = body.split(b"\0")[:2]
            (self.writers.add if WRITES.match(sql) or COMMITS.match(sql) else self.writers.discard)(name)
        elif kind == b"B":
            self.wrote = self.wrote or body.split(b"\0")[1] in self.writers
        elif kind == b"S":
            wrote, self.wrote = self.wrote, False
            return wrote and self.status == b"I"
        return False

    def from_server(self, kind, body, _):
        if kind == b"Z":
            self.status = body[:1]
        if self.swallowing and kind == b"Z":
            self.relay.fire(self)

    def read(self, direction, data):
        pipe = self.pipes[direction]
        pipe.received += len(data)
        pipe.pending += data
        if direction == "to_client" and self.asked_tls:
            self.asked_tls = False
            if data[:1] == b"S":
                for each in self.pipes.values():
                    each.framer.blind = True
            data = data[1:]
        pipe.framer.feed(data)


class Trigger:
    """Armed for one event; `fired` tells that it has happened. match(connection) chooses among connections."""

    def __init__(self, kind, direction="to_server", offset=0, action="reset", match=None):
        assert kind in ("offset", "commit_sent", "commit_held_back", "commit_answer"), kind
        self.kind, self.direction, self.offset, self.action = kind, direction, offset, action
        self.match = match or (lambda connection: True)
        self.fired = threading.Event()


class FaultRelay:
    def __init__(self, port, host="127.0.0.1", match=None):
        """`match(connection)` limits stall, drip and resets to some connections; None: all."""
        self.server = (host, port)
        self.match = match or (lambda connection: True)
        self.connections, self.trigger = [], None
        self.stalled, self.drip = set(), None
        self.closed = False
        self.commands = collections.deque()
        self.wake_in, self.wake_out = socket.socketpair()
        self.wake_in.setblocking(False)
        self.listener = None
        self.port = 0
        self.listen()
        self.thread = threading.Thread(target=self.loop, daemon=True, name="fault-relay")
        self.thread.start()

    # --- commands ---

    def do(self, command):
        """Runs it on the relay's thread; its result."""
        if self.closed:
            return None
        done, result = threading.Event(), []

        def run():
            try:
                result.append(command())
            finally:
                done.set()

        self.commands.append(run)
        with contextlib.suppress(OSError):  # the thread has seen it by itself, and was told to end
            self.wake_out.send(b"x")
        assert done.wait(10), "the relay's thread hangs"
        return result[0] if result else None

    def heal(self):
        """Passes everything again, also new connections. Those that were reset stay so."""
        def command():
            self.stalled, self.drip, self.trigger = set(), None, None
            for connection in list(self.connections):
                for pipe in connection.pipes.values():
                    pipe.stop_at, pipe.then, pipe.stalled = None, None, False
                if connection.swallowing:
                    self.drop(connection)
            self.listen()
        self.do(command)

    def reset_all(self, match=None):
        self.do(lambda: [self.drop(connection) for connection in self.chosen() if match is None or match(connection)])

    def refuse(self):
        """Resets every connection and refuses new ones."""
        def command():
            for connection in list(self.connections):
                self.drop(connection)
            if self.listener:
                self.listener.close()
                self.listener = None
        self.do(command)

    def stall(self, *directions):
        """Neither reads nor forwards; new connections are accepted and stall as well."""
        self.do(lambda: self.stalled.update(directions or DIRECTIONS))

    def stall_present(self, direction):
        """As stall(), but for the connections there are now alone; later ones pass."""
        def command():
            for connection in self.chosen():
                connection.pipes[direction].stalled = True
        self.do(command)

    def slow_drip(self, size, seconds):
        """Each direction of each connection forwards at most `size` bytes per `seconds`."""
        def command():
            self.drip = (size, seconds)
        self.do(command)

    def half_close(self, direction):
        """A FIN in that direction, of every connection; the other direction stays."""
        def command():
            for connection in self.chosen():
                self.end(connection.pipes[direction])
        self.do(command)

    def arm(self, *arguments, **options):
        """The next event of that kind does what it says; see Trigger."""
        trigger = Trigger(*arguments, **options)

        def command():
            self.trigger = trigger
            if trigger.kind == "offset":
                for connection in self.chosen():
                    self.arm_offset(connection)
        self.do(command)
        return trigger

    def close(self):
        def command():
            self.closed = True
        if not self.closed:
            self.do(command)
            self.thread.join(10)

    # --- what the thread does ---

    def listen(self):
        if self.listener:
            return
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(100)
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]

    def chosen(self):
        return [connection for connection in self.connections if self.match(connection)]

    def arm_offset(self, connection):
        if self.trigger and self.trigger.kind == "offset" and self.trigger.match(connection):
            pipe = connection.pipes[self.trigger.direction]
            pipe.stop_at, pipe.then = pipe.sent + self.trigger.offset, self.fire

    def committing(self, connection, end):
        trigger = self.trigger
        if not trigger or trigger.fired.is_set() or not (self.match(connection) and trigger.match(connection)):
            return
        pipe = connection.pipes["to_server"]
        if trigger.kind == "commit_sent":
            pipe.stop_at, pipe.then = end, self.fire
        elif trigger.kind == "commit_held_back":
            pipe.stop_at, pipe.then = pipe.sent, self.fire
        elif trigger.kind == "commit_answer":
            back = connection.pipes["to_client"]
            back.stop_at, back.then = back.received, None
            connection.swallowing = True

    def fire(self, connection):
        trigger = self.trigger
        if not trigger or trigger.fired.is_set():
            return
        {"reset": self.drop, "stall": self.freeze,
         "half_close": lambda it: self.end(it.pipes[trigger.direction])}[trigger.action](connection)
        trigger.fired.set()

    def freeze(self, connection):
        for pipe in connection.pipes.values():
            pipe.stalled = True

    def drop(self, connection):
        if connection in self.connections:
            self.connections.remove(connection)
            reset(connection.client)
            reset(connection.server)

    def end(self, pipe):
        if not pipe.ended_sink:
            pipe.ended = pipe.ended_sink = True
            try:
                pipe.sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket()
            for each in (client, server):
                each.setblocking(False)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.connect_ex(self.server)
            connection = Connection(self, client, server)
            self.connections.append(connection)
            self.arm_offset(connection)

    def forward(self, connection, pipe, now):
        """Sends what may be sent; what stands at a stop happens."""
        room = len(pipe.pending) if pipe.stop_at is None else min(len(pipe.pending), max(0, pipe.stop_at - pipe.sent))
        if self.drip and self.match(connection):
            if now < pipe.next_drip:
                return
            room = min(room, self.drip[0])
            if room:
                pipe.next_drip = now + self.drip[1]
        if room and not pipe.ended_sink:
            try:
                sent = pipe.sink.send(pipe.pending[:room])
            except BlockingIOError:
                return
            pipe.pending = pipe.pending[sent:]
            pipe.sent += sent
        if pipe.stop_at is not None and pipe.sent >= pipe.stop_at and pipe.then:
            then, pipe.then, pipe.stop_at = pipe.then, None, None
            then(connection)
        elif pipe.ended and not pipe.pending:
            self.end(pipe)

    def stopped(self, connection, name, pipe):
        return pipe.stalled or (name in self.stalled and self.match(connection))

    def step(self, connection, readable, now):
        try:
            if connection.connecting:
                error = connection.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise OSError(error, "connect")
                try:
                    connection.server.getpeername()
                except OSError:
                    return
                connection.connecting = False
            for name, pipe in connection.pipes.items():
                if self.stopped(connection, name, pipe):
                    continue
                if pipe.source in readable and not pipe.ended and len(pipe.pending) < LIMIT:
                    try:
                        data = pipe.source.recv(LIMIT)
                        if data:
                            connection.read(name, data)
                        else:
                            pipe.ended = True
                    except BlockingIOError:
                        pass
                if connection in self.connections:
                    self.forward(connection, pipe, now)
            if all(pipe.ended_sink for pipe in connection.pipes.values()) and connection in self.connections:
                self.connections.remove(connection)
                connection.client.close()
                connection.server.close()
        except OSError:
            self.drop(connection)

    def wanted(self, connection, now):
        """({socket: events}, seconds until a drip)."""
        events, soon = collections.Counter(), None
        if connection.connecting:
            events[connection.server] = selectors.EVENT_WRITE
            return events, soon
        for name, pipe in connection.pipes.items():
            if self.stopped(connection, name, pipe):
                continue
            if not pipe.ended and len(pipe.pending) < LIMIT:
                events[pipe.source] |= selectors.EVENT_READ
            if pipe.pending and (pipe.stop_at is None or pipe.stop_at > pipe.sent):
                if now < pipe.next_drip and self.drip:
                    soon = min(soon or 1.0, pipe.next_drip - now)
                else:
                    events[pipe.sink] |= selectors.EVENT_WRITE
        return events, soon

    def loop(self):
        while not self.closed:
            now = time.monotonic()
            timeout = 0.5
            with selectors.SelectSelector() as selector:
                selector.register(self.wake_in, selectors.EVENT_READ)
                if self.listener:
                    selector.register(self.listener, selectors.EVENT_READ)
                for connection in self.connections:
                    events, soon = self.wanted(connection, now)
                    timeout = min(timeout, soon) if soon is not None else timeout
                    for sock, mask in events.items():
                        if mask:
                            selector.register(sock, mask)
                ready = {key.fileobj for key, _ in selector.select(timeout)}
            if self.wake_in in ready:
                self.wake_in.recv(4096)
            while self.commands:
                self.commands.popleft()()
            if self.listener in ready and self.listener:
                self.accept()
            now = time.monotonic()
            for connection in list(self.connections):
                if connection in self.connections:
                    self.step(connection, ready, now)
        for connection in list(self.connections):
            self.drop(connection)
        if self.listener:
            self.listener.close()
        self.wake_in.close()
        self.wake_out.close()
