"""Replication clients through Banyan: served where it only relays, refused by name in between."""
import contextlib
import pathlib
import subprocess

import psycopg2
import pytest

import kit
from kit import wait_until

BIN = pathlib.Path(subprocess.run(["pg_config", "--bindir"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())


@pytest.fixture
def logical(room):
    """Two clusters with wal_level=logical."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(kit.Cluster(room / f"logical-{name}", wal_level="logical"))) for name in ("source", "target")]


def program(name, *arguments, **options):
    return subprocess.Popen([BIN / name, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, **options)


def finish(process, seconds=60):
    try:
        return process.communicate(timeout=seconds * kit.SLOW)[0]
    finally:
        process.kill()


def receive_wal(banyan, directory):
    directory.mkdir()
    return program("pg_receivewal", "-h", "127.0.0.1", "-p", banyan.port, "-U", "postgres", "-D", directory, "--no-loop", "--synchronous", "-s", "1")


def receive_changes(banyan, database, file):
    return program("pg_recvlogical", "-h", "127.0.0.1", "-p", banyan.port, "-U", "postgres", "-d", database, "-S", "changes", "--start",
                   "--no-loop", "-s", "1", "-F", "1", "-f", file)


def streaming(cluster, count):
    return lambda: cluster.sql("select count(*) from pg_stat_replication where state = 'streaming'")[0][0] == count


def test_replication_clients_work_in_initial_and_are_ended_by_the_first_transition(room, logical):
    source, target = logical
    for cluster in logical:
        cluster.create_database("streams")
        cluster.sql("create table t (id int primary key, v text)", "streams", "app")
    banyan = kit.Banyan(room / "streams", source, target, "streams", users=("app",)).start()
    try:
        backup = program("pg_basebackup", "-h", "127.0.0.1", "-p", banyan.port, "-U", "postgres", "-D", room / "backup", "-X", "stream",
                         "-c", "fast")
        said = finish(backup)
        assert backup.returncode == 0, said
        assert (room / "backup" / "PG_VERSION").read_text().startswith("15")

        source.sql("select pg_create_logical_replication_slot('changes', 'test_decoding')", "streams")
        changes = room / "changes"
        wal, logs = receive_wal(banyan, room / "wal"), receive_changes(banyan, "streams", changes)
        try:
            wait_until(streaming(source, 2), "both stream", 30 * kit.SLOW)
            banyan.sql("insert into t select g, repeat('x', 1000) from generate_series(1, 20000) g")
            wait_until(lambda: changes.exists() and changes.read_text().count("table public.t: INSERT") == 20000, "all changes came", 60 * kit.SLOW)
            end = source.sql("select pg_switch_wal()")[0][0]
            wait_until(lambda: source.sql("select min(flush_lsn) >= %s from pg_stat_replication", parameters=(end,))[0][0], "all WAL came",
                       60 * kit.SLOW)
            assert all(process.poll() is None for process in (wal, logs))
            banyan.admin.transition("DUAL_WRITE")
            for process in (wal, logs):
                said = finish(process, 30)
                assert "terminating replication connection: the migration leaves the phase INITIAL" in said, said
            wait_until(streaming(source, 0), "their backends are gone")
        finally:
            for process in (wal, logs):
                process.kill()
        for phase in ("DUAL_WRITE", "DUAL_READ", "SWITCHOVER"):
            banyan.lead_to(phase)
            for mode in ("true", "database", "1"):
                with pytest.raises(psycopg2.OperationalError, match=f"replication connections are not served in phase {phase}"):
                    psycopg2.connect(banyan.dsn("postgres") + f" replication={mode}")
            banyan.sql("select 1")
        banyan.lead_to("COMPLETE")
        target.sql("select pg_create_logical_replication_slot('changes', 'test_decoding')", "streams")
        logs = receive_changes(banyan, "streams", room / "changes-after")
        try:
            wait_until(streaming(target, 1), "it streams from the target", 30 * kit.SLOW)
            banyan.sql("insert into t values (0, 'after')")
            wait_until(lambda: "id[integer]:0 v[text]:'after'" in (room / "changes-after").read_text(), "the change came", 30 * kit.SLOW)
        finally:
            logs.kill()
            logs.wait()
        wait_until(streaming(target, 0), "its backend is gone")
    finally:
        banyan.close()
