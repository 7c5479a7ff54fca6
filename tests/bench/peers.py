"""The programs Banyan is measured against, from Debian's packages, each started for one measurement or many.

Each has a `port` for clients and the `pid` whose tree does the work. Settings are the packages' defaults but for
what is written here.
"""
import pathlib
import signal
import subprocess

from clusters import ENVIRONMENT, command, kit
from processes import end, free_port, tool, unprivileged


class Peer:
    """A program with a directory, a log and a port of its own."""

    stop_signal = signal.SIGTERM

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        self.directory.chmod(0o755)
        self.port = free_port()  # none of them takes port 0
        self.environment = {}  # of its clients
        self.process = None

    def start(self, arguments):
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen([str(argument) for argument in arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                            cwd=self.directory, start_new_session=True)

    @property
    def pid(self):
        return self.process.pid

    def text(self):
        return (self.directory / "log").read_text(errors="replace")[-2000:]

    def wait_ready(self, database="postgres", seconds=30):
        """Until a query is answered through it."""
        def ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"{type(self).__name__} ended: {self.text()}")
            done = subprocess.run([tool("psql"), "-XAtc", "select 1", "-p", str(self.port), database], env=ENVIRONMENT | self.environment,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False, timeout=30)
            return done.stdout.strip() == "1"

        try:
            kit.wait_until(ready, self.text, seconds)
        except BaseException:
            self.close()
            raise
        return self

    def close(self):
        if self.process is not None:
            end(self.process, self.stop_signal)


class PgBouncer(Peer):
    """Session mode. `certificate`: TLS to clients and to the server."""

    stop_signal = signal.SIGINT  # SIGTERM would drop clients just as well, but not in every version

    def __init__(self, directory, server_port, sessions=300, certificate=None):
        super().__init__(directory)
        settings = {
            "listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": "", "auth_type": "trust",
            "auth_file": self.directory / "users", "pool_mode": "session", "max_client_conn": sessions + 50, "default_pool_size": sessions + 10,
            "ignore_startup_parameters": "extra_float_digits", "server_tls_sslmode": "disable",
        }
        if certificate:
            self.environment = {"PGSSLMODE": "require"}
            crt, key = (self.directory / name for name in ("server.crt", "server.key"))
            crt.write_bytes(pathlib.Path(certificate[0]).read_bytes())
            key.write_bytes(pathlib.Path(certificate[1]).read_bytes())
            key.chmod(0o600)
            settings |= {"client_tls_sslmode": "require", "client_tls_cert_file": crt, "client_tls_key_file": key, "server_tls_sslmode": "require"}
        (self.directory / "users").write_text('"app" ""\n"idle" ""\n')
        (self.directory / "pgbouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={server_port}\n[pgbouncer]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
        self.start([*unprivileged(self.directory), tool("pgbouncer"), self.directory / "pgbouncer.ini"])


class HAProxy(Peer):
    """TCP mode: bytes from one socket to the other."""

    def __init__(self, directory, server_port, sessions=500):
        super().__init__(directory)
        (self.directory / "haproxy.cfg").write_text(f"""global
    maxconn {sessions}
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen postgresql
    bind 127.0.0.1:{self.port} backlog 4096
    server source 127.0.0.1:{server_port}
""")
        self.start([tool("haproxy"), "-db", "-f", self.directory / "haproxy.cfg"])


class Pgpool(Peer):
    """Raw mode over one server, or native replication over several; without load balancing.

    insert_lock is on: it is what Pgpool-II offers for serial columns.
    """

    stop_signal = signal.SIGINT  # its fast shutdown

    def __init__(self, directory, clusters, mode="native_replication", sessions=24):
        super().__init__(directory)
        settings = {
            "backend_clustering_mode": mode, "listen_addresses": "127.0.0.1", "port": self.port, "pcp_port": free_port(),
            "pcp_listen_addresses": "127.0.0.1", "unix_socket_directories": directory, "pcp_socket_dir": directory,
            "pid_file_name": self.directory / "pgpool.pid", "logdir": directory, "num_init_children": sessions,
            "load_balance_mode": "off", "insert_lock": "on", "enable_pool_hba": "off", "sr_check_period": 0, "health_check_period": 0,
            "log_min_messages": "warning",
        }
        for number, cluster in enumerate(clusters):
            settings |= {f"backend_hostname{number}": "127.0.0.1", f"backend_port{number}": cluster.port, f"backend_weight{number}": 1,
                         f"backend_data_directory{number}": cluster.directory / "data", f"backend_flag{number}": "ALLOW_TO_FAILOVER"}
        (self.directory / "pgpool.conf").write_text("".join(f"{name} = '{value}'\n" for name, value in settings.items()))
        for name in ("pcp.conf", "pool_hba.conf", "pool_passwd"):
            (self.directory / name).write_text("")
        self.start([tool("pgpool"), "-n", "-f", self.directory / "pgpool.conf", "-F", self.directory / "pcp.conf", "-a", self.directory / "pool_hba.conf"])

    def nodes_up(self, database):
        return command([tool("psql"), "-XAtc", "show pool_nodes", "-p", self.port, database]).count("|up|")
