"""What processes use: processor time, memory and system calls, with all their threads and children."""
import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")


class Missing(Exception):
    """A tool that is not installed."""


def tool(name):
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/postgresql/15/bin")
    if not found:
        raise Missing(f"{name} is not installed: deploy/install-packages --bench")
    return found


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def unprivileged(directory):
    """The beginning of a command line for programs that root must not run; the directory becomes theirs."""
    if os.getuid() != 0:
        return []
    user = pwd.getpwnam("postgres")
    for path in (directory, *pathlib.Path(directory).rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]


def end(process, how=signal.SIGTERM, seconds=10):
    """Asks, waits, insists."""
    if process.poll() is not None:
        return
    process.send_signal(how)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def stat_fields(pid):
    """/proc/PID/stat from the third field on, that is the state."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()


def tree(pid):
    """The process and its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(stat_fields(entry)[1]), []).append(int(entry))
    found, index = [pid], 0
    while index < len(found):
        found += children.get(found[index], [])
        index += 1
    return found


def cpu_seconds(pid):
    """User and system time of a process, its threads, its children and those of them that have ended."""
    ticks = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            ticks += sum(map(int, stat_fields(each)[11:15]))
    return ticks / TICK


def thread_seconds(pid):
    """{thread: user and system time}."""
    times = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            times[thread] = sum(map(int, stat_fields(f"{pid}/task/{thread}")[11:13])) / TICK
    return times


def memory_kb(pid):
    """{"rss_kb", "pss_kb"} of a process and its children. Sockets' buffers are the kernel's and not among it."""
    total = {"rss_kb": 0, "pss_kb": 0}
    for each in tree(pid):
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
                name, value = line.split(":")
                if name in ("Rss", "Pss"):
                    total[f"{name.lower()}_kb"] += int(value.split()[0])
    return total


class Strace:
    """Counts a process's system calls while the block runs; `text` is then strace's table."""

    def __init__(self, pid, file):
        self.pid, self.file, self.text = pid, pathlib.Path(file), ""

    def __enter__(self):
        self.process = subprocess.Popen([tool("strace"), "-f", "-c", "-o", self.file, "-p", str(self.pid)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 5
        while not self.attached():
            if self.process.poll() is not None or time.monotonic() > deadline:
                end(self.process, signal.SIGINT)
                raise RuntimeError(f"strace did not attach: {self.process.stderr.read()[-300:]}")
            time.sleep(0.05)
        return self

    def attached(self):
        """Every thread is traced."""
        with contextlib.suppress(OSError):
            return all("TracerPid:\t0\n" not in path.read_text() for path in pathlib.Path(f"/proc/{self.pid}/task").glob("*/status"))
        return False

    def __exit__(self, *_):
        end(self.process, signal.SIGINT)
        self.process.stderr.close()
        self.text = self.file.read_text(errors="replace")
