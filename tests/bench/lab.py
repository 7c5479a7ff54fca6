"""What measurements run on: the servers, databases, Banyans and peers, each made when first asked for."""
import contextlib
import pathlib
import shutil
import tempfile

import peers
from clusters import Servers, kit

# Banyan as an operator starts it: an event loop per core.
BANYAN = {"proxy": {"threads": 0}, "users": ("app",), "limits": {"max_clients": 1000}}


class Sizes:
    """How much data there is. `quick` proves that everything runs; its ratios mean little."""

    def __init__(self, quick):
        self.scale = 1 if quick else 10
        self.big_scale = 2 if quick else 100
        self.sysbench_tables = 2 if quick else 4
        self.sysbench_rows = 1000 if quick else 20_000
        self.copy_dual_rows = 20_000 if quick else 1_000_000  # about 100 bytes each
        self.idle_sessions = 300 if quick else 10_000


class Lab:
    def __init__(self, quick, binary):
        self.sizes = Sizes(quick)
        self.quick = quick
        kit.BINARY = str(pathlib.Path(binary).resolve())
        self.stack = contextlib.ExitStack()
        self.made = {}
        self.room = pathlib.Path(tempfile.mkdtemp(prefix="banyan-bench."))
        self.room.chmod(0o755)
        self.stack.callback(shutil.rmtree, self.room, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def once(self, name, make):
        """What `make` gave the first time; a failure is remembered, too."""
        if name not in self.made:
            try:
                self.made[name] = (make(), None)
            except Exception as error:  # pylint: disable=broad-except
                self.made[name] = (None, error)
        value, error = self.made[name]
        if error is not None:
            raise error
        return value

    @property
    def servers(self):
        def make():
            servers = Servers(self.room)
            self.stack.callback(servers.close)
            return servers

        return self.once("servers", make)

    # --- databases ---

    def database(self, name):
        """Loads it if that has not been done: see the functions below, one for each."""
        self.once(f"database {name}", getattr(self, f"make_{name}"))
        return name

    def make_plain(self):
        """Read and written by one way at a time, straight or through a relay."""
        self.servers.create("plain")
        self.servers.load_pgbench("plain", self.sizes.scale)
        self.servers.load_sysbench("plain", self.sizes.sysbench_tables, self.sizes.sysbench_rows)
        self.servers.settle("plain")

    def make_mirrored(self, name):
        """Loaded on the source; Banyan brings the rows to the target."""
        self.servers.create(name)
        self.servers.load_pgbench(name, self.sizes.scale)
        self.servers.load_sysbench(name, self.sizes.sysbench_tables, self.sizes.sysbench_rows)
        self.servers.copy_schema(name)
        self.servers.settle(name)

    def make_dual(self):
        self.make_mirrored("dual")

    def make_read(self):
        self.make_mirrored("read")

    def make_both(self, name, keys=True):
        """Loaded on both sides."""
        self.servers.create(name)
        self.servers.load_pgbench(name, self.sizes.scale, self.servers.both, keys)
        self.servers.settle(name)

    def make_pair(self):
        self.make_both("pair")

    def make_pool(self):
        """pgbench_history without the key that Banyan needs: Pgpool-II has no locks to take for it then."""
        self.make_both("pool", keys=False)

    def make_big(self):
        """About a gigabyte: for COPY, backfill and verification."""
        self.servers.create("big")
        self.servers.load_pgbench("big", self.sizes.big_scale)
        self.servers.copy_schema("big")
        self.servers.settle("big")

    # --- Banyans: by the database they serve ---

    def banyan(self, name, database, phase="INITIAL", **sections):
        def make():
            self.database(database)
            banyan = kit.Banyan(self.room / f"banyan-{name}", self.servers.source, self.servers.target, database, **BANYAN)
            banyan.sections["proxy"].pop("sessions_before_next_thread")  # as shipped; the tests want sessions on every loop
            for section, content in sections.items():
                banyan.sections[section] |= content
            self.stack.callback(banyan.close)
            banyan.start()
            banyan.lead_to(phase)
            if phase != "INITIAL":
                banyan.admin.wait_backfill(600)
                banyan.admin.wait_clean(600)
            for cluster in self.servers.both:
                cluster.sql("vacuum analyze", database)
                cluster.sql("checkpoint")
            return banyan

        return self.once(f"banyan {name}", make)

    def initial(self):
        return self.banyan("initial", "plain")

    def dual(self):
        return self.banyan("dual", "dual", "DUAL_WRITE")

    def read(self):
        """In DUAL_READ; every read that qualifies is run on the target, too."""
        return self.banyan("read", "read", "DUAL_READ", shadow={"share": 1.0, "min_samples": 1})

    def big(self):
        """In whatever phase the last measurement left it; INITIAL at first."""
        return self.banyan("big", "big")

    def with_threads(self, count):
        return self.banyan(f"threads-{count}", "plain", proxy={"threads": count})

    def initial_tls(self):
        crt, key = self.servers.certificate
        return self.banyan("tls", "plain", listen={"sslmode": "require", "ssl_cert_file": crt, "ssl_key_file": key},
                           source={"sslmode": "require"}, target={"sslmode": "require"})

    def mirrored(self):
        """The Banyans whose two sides must be equal at the end."""
        return {name: self.made[f"banyan {name}"][0] for name in ("dual", "read") if self.made.get(f"banyan {name}", (None,))[0] is not None}

    # --- peers ---

    def peer(self, name, make, database="plain"):
        def start():
            self.database(database)
            peer = make(self.room / name)
            self.stack.callback(peer.close)
            return peer.wait_ready(database)

        return self.once(f"peer {name}", start)

    def pgbouncer(self):
        return self.peer("pgbouncer", lambda room: peers.PgBouncer(room, self.servers.source.port))

    def pgbouncers(self):
        """One before each server: what passing on costs two databases, without keeping them equal."""
        return [self.peer(f"pgbouncer-{name}", lambda room, port=cluster.port: peers.PgBouncer(room, port), "pair")
                for name, cluster in zip(("source", "target"), self.servers.both)]

    def pgbouncer_tls(self):
        return self.peer("pgbouncer-tls", lambda room: peers.PgBouncer(room, self.servers.source.port, certificate=self.servers.certificate))

    def haproxy(self):
        return self.peer("haproxy", lambda room: peers.HAProxy(room, self.servers.source.port))

    def pgpool_raw(self):
        return self.peer("pgpool-raw", lambda room: peers.Pgpool(room, [self.servers.source], "raw", 160))

    def pgpool_native(self):
        return self.peer("pgpool-native", lambda room: peers.Pgpool(room, self.servers.both, "native_replication", 160), "pool")
