"""Every conversation of test_transparency, with the bytes between client and Banyan, and between Banyan
and both servers, cut into pieces of a few bytes: what anybody says must not depend on where it is cut."""
import random
import select
import socket
import threading

import pytest

import kit
from test_transparency import SCHEMA, conversations, converse


class Chopper(threading.Thread):
    """A relay to a port of this machine that passes on 1 to `largest` bytes at a time, both ways. Large streams it
    passes on whole after `patience` bytes, so that a backfill is not slowed down to nothing."""

    def __init__(self, port, seed, largest=9, patience=60000):
        super().__init__(daemon=True)
        self.to = port
        self.random = random.Random(seed)
        self.largest, self.patience = largest, patience
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self.listener.getsockname()[1]
        self.pairs = {}
        self.passed = {}
        self.wake, self.waker = socket.socketpair()
        self.start()

    def close(self):
        self.waker.close()
        self.join(20)

    def run(self):
        while True:
            readable, _, _ = select.select([self.listener, self.wake, *self.pairs], [], [])
            if self.wake in readable:
                break
            for sock in readable:
                if sock is self.listener:
                    self.accept()
                elif sock in self.pairs:
                    self.pass_on(sock)
        for sock in [self.listener, self.wake, *self.pairs]:
            sock.close()

    def accept(self):
        client, _ = self.listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self.to), timeout=20)
        except OSError:
            client.close()
            return
        for sock, other in ((client, server), (server, client)):
            sock.settimeout(20 * kit.SLOW)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.pairs[sock] = other
            self.passed[sock] = 0

    def pass_on(self, sock):
        other = self.pairs[sock]
        try:
            data = sock.recv(self.random.randint(1, self.largest) if self.passed[sock] < self.patience else 65536)
            if data:
                self.passed[sock] += len(data)
                other.sendall(data)
                return
        except OSError:
            pass
        for end in (sock, other):
            self.pairs.pop(end, None)
            end.close()


@pytest.mark.parametrize("phase", ["INITIAL", "DUAL_WRITE", "DUAL_READ", "SWITCHOVER"])
def test_where_bytes_are_cut_changes_nothing(migration, source, target, phase):
    banyan = migration(SCHEMA, start=False)
    control = f"{banyan.database}_control"
    source.create_database(control)
    source.sql(SCHEMA, control, "app")
    choppers = [Chopper(source.port, 1), Chopper(target.port, 2)]
    try:
        banyan.sections["source"]["port"] = choppers[0].port
        banyan.sections["target"]["port"] = choppers[1].port
        banyan.start()
        banyan.lead_to(phase)
        front = Chopper(banyan.port, 3, largest=3, patience=10 ** 9)
        choppers.append(front)
        differences = []
        for name, steps in conversations(1000).items():
            if name.startswith("a large"):
                continue
            with kit.Wire(source.port, "app", control) as direct, kit.Wire(front.port, "app", banyan.database, timeout=30 * kit.SLOW) as client:
                expected, found = converse(direct, steps), converse(client, steps)
                differences += [(name, one, other) for one, other in zip(expected, found) if one != other]
        assert differences == []
        if phase != "INITIAL":
            banyan.settle_and_compare()
    finally:
        banyan.stop()
        for chopper in choppers:
            chopper.close()
        source.drop_database(control)
