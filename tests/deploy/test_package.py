"""The Debian package: what is in it, and that it can be installed, started, upgraded, removed and purged.

BANYAN_DEB names a package; without it one is made of the programs under test. What changes this machine
needs root, and is skipped where a Banyan is installed already.
"""
import grp
import os
import pathlib
import pwd
import re
import signal
import stat
import subprocess

import kit
import psycopg2
import pytest
from kit import wait_until
from shipped import DEPLOY, ROOT, run, tool

PACKAGE = DEPLOY / "package"
UNIT = PACKAGE / "banyan.service"
CONFIG, STATE = pathlib.Path("/etc/banyan/banyan.toml"), pathlib.Path("/var/lib/banyan")


def build(directory, *options):
    return pathlib.Path(run(PACKAGE / "build-deb", "--binaries", pathlib.Path(kit.BINARY).parent, "--output", directory, *options,
                            stderr=subprocess.PIPE).stdout.split()[-1])


@pytest.fixture(scope="module")
def deb(tmp_path_factory):
    if "BANYAN_DEB" in os.environ:
        return pathlib.Path(os.environ["BANYAN_DEB"])
    return build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def unpacked(deb, tmp_path_factory):
    directory = tmp_path_factory.mktemp("unpacked")
    run("dpkg-deb", "-R", deb, directory)
    return directory


def test_it_has_programs_pages_unit_and_configuration_and_is_small(deb, unpacked):
    files = {"/" + str(file.relative_to(unpacked)): file for file in unpacked.rglob("*") if file.is_file() and "DEBIAN" not in file.parts}
    for name in ("/usr/bin/banyan", "/usr/bin/banyanctl", "/lib/systemd/system/banyan.service", "/etc/banyan/banyan.toml",
                 "/usr/share/man/man1/banyan.1.gz", "/usr/share/man/man1/banyanctl.1.gz", "/usr/share/doc/banyan/RUNBOOK.md",
                 "/usr/share/doc/banyan/copyright", "/usr/share/doc/banyan/prometheus/banyan.rules.yml",
                 "/usr/share/doc/banyan/grafana/dashboards/migration.json"):
        assert name in files, name
    assert {name.split("/")[1] for name in files} == {"usr", "etc", "lib"}
    listed = run("dpkg-deb", "-c", deb).stdout
    assert all(line.split()[1] == "root/root" for line in listed.splitlines())
    assert "-rw-r-----" in next(line for line in listed.splitlines() if line.endswith("./etc/banyan/banyan.toml"))
    assert not [line for line in listed.splitlines() if line[8] == "w"]  # nothing that others may write
    assert (unpacked / "DEBIAN/conffiles").read_text().split() == ["/etc/banyan/banyan.toml"]
    for program in ("banyan", "banyanctl"):
        assert ".debug_info" not in run("readelf", "-S", "-W", files[f"/usr/bin/{program}"]).stdout
    assert sum(file.stat().st_size for file in files.values()) < 20_000_000


def test_its_dependencies_are_the_libraries_that_the_programs_need(deb, unpacked):
    depends = run("dpkg-deb", "-f", deb, "Depends").stdout
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", "".join(run("readelf", "-d", unpacked / "usr/bin" / name).stdout for name in ("banyan", "banyanctl"))))
    for library in needed:
        path = next(line.split()[-1] for line in run("/sbin/ldconfig", "-p").stdout.splitlines() if line.split()[0:1] == [library])
        real = os.path.realpath(path)
        owner = run("dpkg", "-S", real, real.removeprefix("/usr"), check=False, stderr=subprocess.DEVNULL).stdout.split(":")[0]
        assert owner, library
        provided = run("dpkg-query", "-W", "-f", "${Provides}", owner).stdout
        names = [owner, *(name.split()[0] for name in provided.split(", ") if name)]
        assert any(re.search(rf"(^|, ){re.escape(name)}( |,|$)", depends) for name in names), (library, names, depends)
    assert len(needed) > 8 and "adduser" in depends


def test_maintainer_scripts_are_shell(unpacked):
    for script in ("postinst", "prerm", "postrm"):
        run("sh", "-n", unpacked / "DEBIAN" / script)
        assert (unpacked / "DEBIAN" / script).read_text().startswith("#!/bin/sh\nset -e\n")


def test_the_unit_is_valid_and_confined(unpacked, tmp_path):
    unit = tmp_path / "banyan.service"
    text = UNIT.read_text()
    unit.write_text(text.replace("/usr/bin/banyan", str(unpacked / "usr/bin/banyan")))
    done = run(tool("systemd-analyze"), "verify", "--man=no", unit, check=False)
    complaints = [line for line in done.stdout.splitlines() if "banyan" in line]  # others' units are none of ours
    assert done.returncode == 0 and not complaints, done.stdout
    unit.write_text(unit.read_text().replace("WatchdogSec=30", "WatchdogSek=30"))
    assert "WatchdogSek" in run(tool("systemd-analyze"), "verify", "--man=no", unit, check=False).stdout
    run(tool("systemd-analyze"), "security", "--offline=true", "--threshold=20", "--no-pager", UNIT)  # 2.0 of 10 at most
    settings = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Z]\w+=", line))
    assert settings["Type"] == "notify" and settings["User"] == "banyan" and settings["StateDirectory"] == "banyan"
    assert "HUP" in settings["ExecReload"] and int(settings["LimitNOFILE"]) >= 65536
    # Hidden, the boot id would be the same always, and no crash of the machine would be noticed.
    assert "/proc/sys/kernel/random/boot_id" in (ROOT / "router/state/state_db.cpp").read_text()
    assert "ProcSubset" not in settings


def calls_of(name):
    """The system calls of a set of systemd's, such as @system-service."""
    found = set()
    for line in run(tool("systemd-analyze"), "syscall-filter", name).stdout.splitlines()[1:]:
        word = line.split("#")[0].strip()
        found |= calls_of(word) if word.startswith("@") else {word} - {""}
    return found


def test_the_unit_allows_each_system_call_of_banyan_s(migration, monkeypatch, tmp_path):
    """And no memory that is both written and run. Traced as another user than root, with whom SQLite calls more."""
    trace = tmp_path / "trace"
    wrapper = tmp_path / "banyan"
    leave = "setpriv --reuid=nobody --regid=nogroup --clear-groups" if os.geteuid() == 0 else ""
    wrapper.write_text(f"""#!/bin/sh
{'chown -R nobody "${2%/*}"' if leave else ":"}
exec strace -D -f -qq -e signal=none -o {trace} {leave} {kit.BINARY} "$@"
""")
    wrapper.chmod(0o755)
    monkeypatch.setattr(kit, "BINARY", str(wrapper))
    banyan = migration("create table t (id int primary key)", "insert into t select generate_series(1, 100)")
    banyan.lead_to("SWITCHOVER")
    banyan.sql("delete from t where id < 10")
    banyan.process.send_signal(signal.SIGHUP)
    banyan.settle_and_compare()
    assert banyan.stop() == 0
    lines = wait_until(lambda: "exit_group" in trace.read_text(errors="replace") and trace.read_text(errors="replace").splitlines(), "the trace's end", 20)
    # What setpriv does comes before the second execve.
    begin = max(number for number, line in enumerate(lines) if " execve(" in line)
    used = {match.group(1) for line in lines[begin:] if (match := re.match(r"\d+ +(\w+)\(", line))}
    assert len(used) > 40, used
    allowed = set()
    for words in re.findall(r"^SystemCallFilter=(.*)$", UNIT.read_text(), re.M):
        for word in words.lstrip("~").split():
            calls = calls_of(word)
            allowed = allowed - calls if words.startswith("~") else allowed | calls
    assert "fchown" not in allowed and used <= allowed | calls_of("@default"), used - allowed
    assert not [line for line in lines[begin:] if re.search(r"m(map|protect)\(.*PROT_WRITE\|PROT_EXEC", line)]


def test_the_manual_pages_are_clean_and_name_every_option_and_command():
    for page, program, commands in (("banyan.1", kit.BINARY, False), ("banyanctl.1", kit.CTL, True)):
        file = DEPLOY / "man" / page
        done = run(tool("man"), "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", file, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                   env={**os.environ, "LC_ALL": "C.UTF-8", "MANROFFSEQ": ""})
        assert not done.stderr, done.stderr
        text = file.read_text().replace("\\-", "-")
        shown = run(program, "--help").stdout
        if commands:
            names = re.findall(r"^  (\w+)  ", shown.split("Subcommands:")[1].split("Exit codes:")[0], re.M)
            assert len(names) > 10
            for name in names:
                assert re.search(rf"^\.BR? {name}\b", text, re.M), name
                shown += run(program, name, "--help").stdout
            assert set(re.findall(r"^\.BR? ([a-z]+)(?: |$)", text.split(".SH COMMANDS")[1].split(".SS")[0], re.M)) == set(names)
        options = set(re.findall(r"--[a-z][\w-]+", shown))
        assert options == set(re.findall(r"--[a-z][\w-]+", text)), options ^ set(re.findall(r"--[a-z][\w-]+", text))


def test_it_can_be_installed_below_any_prefix_without_the_service(tmp_path):
    run("cmake", "-S", PACKAGE, "-B", tmp_path / "build", f"-DBANYAN_PACKAGE_BINARIES={pathlib.Path(kit.BINARY).parent}")
    run("cmake", "--install", tmp_path / "build", "--prefix", tmp_path / "root")
    assert "banyan" in run(tmp_path / "root/bin/banyan", "--version").stdout
    assert (tmp_path / "root/share/man/man1/banyan.1.gz").exists() and not (tmp_path / "root/etc").exists()


# --- on this machine ---

def has_user():
    return any(entry.pw_name == "banyan" for entry in pwd.getpwall())


def dpkg(*arguments):
    done = None
    for _ in range(30):  # somebody else may be installing
        # Without its pages: what man-db does for each is slow, and the same for every package.
        done = run("dpkg", "--force-unsafe-io", "--path-exclude=/usr/share/man/*", *arguments, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        if "lock" not in done.stdout or done.returncode == 0:
            break
        wait_until(lambda: True, "", 1)
    assert done.returncode == 0, done.stdout
    return done.stdout


def mode(path):
    entry = os.stat(path)
    return pwd.getpwuid(entry.st_uid).pw_name, grp.getgrgid(entry.st_gid).gr_name, oct(stat.S_IMODE(entry.st_mode))


@pytest.fixture
def machine():
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if has_user() or STATE.exists() or CONFIG.exists() or run("dpkg", "-s", "banyan", check=False).returncode == 0:
        pytest.skip("a Banyan is, or was, installed here")
    yield
    run("dpkg", "--purge", "banyan", check=False)
    run("rm", "-rf", STATE, CONFIG.parent)
    if has_user():
        run("/usr/sbin/deluser", "--quiet", "--system", "banyan")


class Service:
    """What the unit would run, where no systemd does."""

    def __init__(self, source, target, database):
        port_file, admin_file = STATE / "port", STATE / "admin-port"
        CONFIG.write_text(kit.toml_text({
            "listen": {"port": 0, "port_file": port_file}, "migration": {"database": database},
            "source": {"host": "127.0.0.1", "port": source.port, "database": database, "user": "postgres"},
            "target": {"host": "127.0.0.1", "port": target.port, "database": database, "user": "postgres"},
            "state": {"directory": STATE}, "admin": {"host": "127.0.0.1", "port": 0, "port_file": admin_file}}))
        command = re.search(r"^ExecStart=(.*)$", UNIT.read_text(), re.M).group(1).split()
        self.database = database
        port_file.unlink(missing_ok=True)
        self.process = subprocess.Popen(["setpriv", "--reuid=banyan", "--regid=banyan", "--init-groups", *command], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/")
        try:
            self.port = int(wait_until(lambda: self.process.poll() is None and port_file.exists() and port_file.read_text(), "a port", 20 * kit.SLOW))
        except BaseException:
            self.stop()
            raise

    def ask(self):
        connection = psycopg2.connect(f"host=127.0.0.1 port={self.port} user=app dbname={self.database} connect_timeout=20")
        with connection, connection.cursor() as cursor:
            cursor.execute("select 42")
            answer = cursor.fetchone()[0]
        connection.close()
        return answer

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20 * kit.SLOW)


@pytest.fixture(scope="module")
def newer(tmp_path_factory):
    return build(tmp_path_factory.mktemp("newer"), "--version", "99.0")


def test_install_start_upgrade_remove_purge(machine, deb, newer, source, target):
    for cluster in (source, target):
        cluster.create_database("packaged")

    said = dpkg("-i", deb)
    assert "systemctl enable" in said
    assert mode(CONFIG) == ("root", "banyan", "0o640") and mode(STATE) == ("banyan", "banyan", "0o700")
    user = pwd.getpwnam("banyan")
    assert user.pw_uid < 1000 and user.pw_shell.endswith("nologin") and user.pw_dir == str(STATE)
    assert CONFIG.read_text() == (DEPLOY / "banyan.example.toml").read_text()
    run("setpriv", "--reuid=banyan", "--regid=banyan", "--init-groups", "/usr/bin/banyan", "-c", CONFIG, "--check-config")
    assert run("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "cat", CONFIG, check=False).returncode != 0

    service = Service(source, target, "packaged")
    try:
        assert service.ask() == 42
        edited = CONFIG.read_text()
        dpkg("-i", "--force-confold", newer)
        assert service.ask() == 42  # the upgrade has left it alone
        assert CONFIG.read_text() == edited and mode(CONFIG) == ("root", "banyan", "0o640")
    finally:
        assert service.stop() == 0
    service = Service(source, target, "packaged")  # the newer one
    try:
        assert service.ask() == 42
    finally:
        assert service.stop() == 0

    enabled = pathlib.Path("/etc/systemd/system/multi-user.target.wants/banyan.service")
    run("systemctl", "enable", "banyan")
    assert enabled.is_symlink()
    dpkg("--remove", "banyan")
    assert not enabled.is_symlink()
    assert not pathlib.Path("/usr/bin/banyan").exists() and not pathlib.Path("/lib/systemd/system/banyan.service").exists()
    assert CONFIG.read_text() == edited and has_user() and list(STATE.iterdir())

    # A migration's memory is not thrown away.
    said = dpkg("--purge", "banyan")
    assert "stays" in said and list(STATE.iterdir()) and has_user() and mode(STATE)[0] == "banyan"
    assert not CONFIG.parent.exists()

    # Without one, nothing is left.
    dpkg("-i", deb)
    run("find", STATE, "-mindepth", "1", "-delete")
    dpkg("--purge", "banyan")
    assert not STATE.exists() and not CONFIG.parent.exists() and not has_user()
    for cluster in (source, target):
        cluster.drop_database("packaged")
