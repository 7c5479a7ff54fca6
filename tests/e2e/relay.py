"""A TCP relay that can be pointed at another server while it runs: the virtual IP address of a failover."""
import contextlib
import socket
import threading


class Relay:
    def __init__(self, port):
        self.to = port  # on 127.0.0.1; None: refuses
        self.lock = threading.Lock()
        self.open = set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.to or 1), timeout=10)
                server.settimeout(None)
            except OSError:
                reset(client)
                continue
            with self.lock:
                self.open |= {client, server}
            for one, other in ((client, server), (server, client)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.pump, args=(one, other), daemon=True).start()

    def pump(self, one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self.lock:
            self.open.discard(one)
        one.close()

    def point(self, port, drop=True):
        """New connections go to this port. Without `drop` those that are open live on."""
        self.to = port
        if drop:
            self.drop()

    def drop(self):
        with self.lock:
            ends = list(self.open)
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.drop()


def reset(connection):
    connection.close()
