"""The matrix: which fault, in which phase, under which workload. A seed names one cell; rows are added here.

A fault is a function of (run) registered by @fault(name, phases); it injects and heals, using what
experiment.Run offers (run.draw, run.banyan, run.clusters, run.relays, run.sleep, run.note). Sync points
come from the list in router/model/sync_point.hpp, each a row by itself, killed and stopped at.
"""
import contextlib
import pathlib
import random
import re
import signal

from workload import WORKLOADS

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEADY = ("initial", "backfill", "dual_write", "dual_read", "switchover")
# name: (where it begins, where it goes)
TRANSITIONS = {"start": ("INITIAL", "DUAL_WRITE"), "to_read": ("DUAL_WRITE", "DUAL_READ"), "flip": ("DUAL_READ", "SWITCHOVER"),
               "flip_back": ("SWITCHOVER", "DUAL_READ"), "complete": ("SWITCHOVER", "COMPLETE"), "stop": ("DUAL_WRITE", "INITIAL")}
PHASES = STEADY + tuple(TRANSITIONS)
BEGINS = {"initial": "INITIAL", "backfill": "INITIAL", "dual_write": "DUAL_WRITE", "dual_read": "DUAL_READ", "switchover": "SWITCHOVER",
          **{name: pair[0] for name, pair in TRANSITIONS.items()}}
MIRRORING = ("backfill", "dual_write", "dual_read", "switchover")
FAULTS = {}  # name: (phases, function)


def fault(name, phases=PHASES):
    def register(function):
        FAULTS[name] = (tuple(phases), function)
        return function
    return register


@fault("none")
def nothing(run):
    run.sleep(0.3)


# --- processes ---

@fault("banyan kill9")
def banyan_killed(run):
    run.banyan.kill9()
    run.sleep(run.draw.random() * 0.3)
    run.restart_banyan()


@fault("banyan kill9 twice")
def banyan_killed_twice(run):
    """The second time while it recovers."""
    run.banyan.kill9()
    run.restart_banyan(ready=False)
    run.sleep(run.draw.random() * 0.6)
    if run.banyan.process.poll() is None:
        run.banyan.kill9()
    run.restart_banyan()


@fault("banyan restart")
def banyan_restarted(run):
    code = run.banyan.stop(run.deadline)
    if code != 0:
        run.problem(f"Banyan ended with {code} on SIGTERM")
    run.restart_banyan()


@fault("banyan stop")
def banyan_stopped(run):
    run.banyan.process.send_signal(signal.SIGSTOP)
    run.sleep(run.away())
    run.banyan.process.send_signal(signal.SIGCONT)


def server_faults(side):
    @fault(f"{side} kill9")
    def killed(run):
        run.clusters[side].kill9()
        run.sleep(run.draw.choice([0.0, run.away()]))
        run.clusters[side].restart()

    @fault(f"{side} immediate")
    def shut_down(run):
        run.clusters[side].stop("immediate")
        run.sleep(run.draw.choice([0.0, run.away()]))
        run.clusters[side].restart()

    @fault(f"{side} restart")
    def restarted(run):
        run.clusters[side].stop("fast")
        run.clusters[side].restart()

    @fault(f"{side} stop")
    def stopped(run):
        run.clusters[side].freeze()
        run.sleep(run.away())
        run.clusters[side].thaw()

    @fault(f"{side} backends end")
    def backends_end(run):
        """All sessions of this database end, the server lives."""
        run.clusters[side].sql(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{run.database}'")


server_faults("source")
server_faults("target")


@fault("banyan and source kill9", ("dual_write", "dual_read", "switchover", "flip"))
def both_killed(run):
    run.banyan.kill9()
    run.clusters["source"].kill9()
    run.clusters["source"].restart()
    run.restart_banyan()


@fault("banyan and target kill9", ("dual_write", "dual_read", "switchover", "flip"))
def the_other_both_killed(run):
    run.clusters["target"].kill9()
    run.banyan.kill9()
    run.clusters["target"].restart()
    run.restart_banyan()


# --- the network ---

def relay_faults(leg):
    @fault(f"{leg} reset")
    def reset(run):
        for _ in range(run.draw.randint(1, 3)):
            run.relays[leg].reset_all()
            run.sleep(run.draw.random() * 0.3)

    @fault(f"{leg} reset at byte")
    def reset_at(run):
        for _ in range(4):
            trigger = run.relays[leg].arm("offset", run.draw.choice(["to_server", "to_client"]), run.draw.randint(0, 600),
                                          match=run.draw.choice([None, run.of_a_client]))
            trigger.fired.wait(run.away())

    @fault(f"{leg} refused")
    def refused(run):
        run.relays[leg].refuse()
        run.sleep(run.away())

    @fault(f"{leg} half-closed")
    def half_closed(run):
        run.relays[leg].half_close(run.draw.choice(["to_server", "to_client"]))
        run.sleep(run.away())

    @fault(f"{leg} stalled")
    def stalled(run):
        run.relays[leg].stall(*run.draw.choice([(), ("to_server",), ("to_client",)]))
        run.sleep(run.away() * 1.5)

    @fault(f"{leg} stalled, then reset")
    def stalled_and_reset(run):
        run.relays[leg].stall(*run.draw.choice([(), ("to_server",), ("to_client",)]))
        run.sleep(run.away() * 1.5)
        run.relays[leg].reset_all()

    @fault(f"{leg} drips")
    def drips(run):
        run.relays[leg].slow_drip(run.draw.randint(20, 400), 0.01)
        run.sleep(run.away() * 1.5)

    def commits(kind):
        def cut(run):
            for _ in range(run.draw.randint(2, 5)):
                run.relays[leg].arm(kind, action=run.draw.choice(["reset", "reset", "stall"]), match=run.of_a_client).fired.wait(1.5)
                run.sleep(run.draw.random() * 0.3)
            run.sleep(run.draw.choice([0.0, run.away()]))
        return cut

    fault(f"{leg} COMMIT sent", ("initial",) + MIRRORING[1:] + ("flip", "flip_back") if leg != "target" else MIRRORING)(commits("commit_sent"))
    fault(f"{leg} COMMIT's answer lost", MIRRORING + ("flip", "complete"))(commits("commit_answer"))
    fault(f"{leg} COMMIT held back", MIRRORING + ("flip_back",))(commits("commit_held_back"))


for each_leg in ("client", "source", "target"):
    relay_faults(each_leg)


@fault("banyan kill9, its last COMMITs stalled", ("dual_write", "dual_read", "switchover"))
def killed_with_commits_on_their_way(run):
    """The dead process's COMMITs reach the primary after the next one has started (R15)."""
    leg = "target" if run.phase == "switchover" else "source"
    run.relays[leg].stall_present("to_server")
    run.sleep(0.1 + run.draw.random() * 0.3)
    run.banyan.kill9()
    run.restart_banyan()
    run.sleep(run.away() * 2)
    run.relays[leg].heal()


# --- the disk ---

@fault("disk full", ("dual_write", "dual_read", "switchover", "flip", "start"))
def disk_full(run):
    if not run.small_disk:
        return run.skip("no tmpfs can be mounted")
    filler = run.banyan.directory / "state" / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    run.sleep(run.away())
    if run.draw.random() < 0.4:
        run.banyan.kill9()
        filler.unlink()
        run.restart_banyan()
    else:
        filler.unlink()
    return None


# --- sync points ---

def declared_points():
    """{name: thread} from the header."""
    text = (ROOT / "router/model/sync_point.hpp").read_text()
    return dict(re.findall(r'X\((\w+), (\w+), "', text))


SESSION = ("journaled", "commit_sent", "commit_answered", "mirror_commit_sent", "client_told", "mirror_answered", "journal")
REPAIR = ("repair_look", "repair_read", "repair_written", "repair_committed", "repair_batch")
HOLD = ("hold_published", "held", "drained", "sequences_advanced")
WALK = ("before_persist", "persisted", "published", "adopted")
POINT_PHASES = {
    **dict.fromkeys(SESSION, MIRRORING), **dict.fromkeys(REPAIR, MIRRORING[1:]),
    **dict.fromkeys(("chunk_read", "chunk_inserted", "chunk_committed"), ("backfill",)),
    **dict.fromkeys(HOLD, ("flip", "flip_back")), **dict.fromkeys(WALK, tuple(TRANSITIONS)),
    "limbo_gone": ("dual_write", "switchover"), "verified": ("dual_write", "switchover"),
    "recovering": MIRRORING, "recovered": MIRRORING, "catalog_loaded": ("start",), "workers_started": ("start",),
    "workers_stopped": ("complete", "stop"), "forgotten": ("complete", "stop"),
}


def provoke(run, point):
    """What makes the point be passed, where the workload alone does not."""
    primary, mirror = ("target", "source") if run.phase == "switchover" else ("source", "target")
    if point in REPAIR:
        run.relays[mirror].reset_all(run.of_a_client)  # not Banyan's own
    elif point == "limbo_gone":
        run.relays[primary].arm("commit_sent", match=run.of_a_client)
    elif point == "verified":
        with contextlib.suppress(Exception):
            run.banyan.admin.post("/verifications", {"repair": True})


def at_point(point, action):
    def happen(run):
        run.arm(f"{point}={action}" + (f":{run.draw.randint(1, 6)}" if point in SESSION else ""))
        if point in ("recovering", "recovered"):
            run.banyan.kill9()
            run.restart_banyan(ready=False)
        reached = run.wait_for_point(point, lambda: provoke(run, point))
        run.arm("")
        if action == "kill9":
            if reached:
                run.banyan.process.wait(run.deadline)
                run.sleep(run.draw.choice([0.0, 0.3]))
            elif run.banyan.process.poll() is None:
                run.banyan.kill9()
            run.restart_banyan()
        elif action == "stop" and reached:
            run.sleep(run.away())
            run.banyan.process.send_signal(signal.SIGCONT)
        else:
            run.sleep(run.away())
        if not run.banyan.ready_seen:
            run.banyan.wait_ready(run.deadline)
            run.banyan.ready_seen = True
    happen.point = point
    return happen


for each_point, each_thread in declared_points().items():
    for each_action in ("kill9", "stop", *(["pause=400"] if each_thread == "worker" else [])):
        fault(f"{each_action} at {each_point}", POINT_PHASES.get(each_point, ()))(at_point(each_point, each_action))


# --- cells ---

def is_sync(name):
    return hasattr(FAULTS[name][1], "point")


def cells(faults=None, phases=None, sync=None):
    """[(fault, phase)], in an order of its own that never changes unless rows do: neighbours differ."""
    found = [(name, phase) for name, (where, _) in FAULTS.items() for phase in where
             if (not faults or name in faults) and (not phases or phase in phases) and (sync is None or is_sync(name) == sync)]
    random.Random(5).shuffle(found)
    return found


def cell_of(seed, chosen, workloads=WORKLOADS):
    """(fault, phase, workload) of a seed."""
    name, phase = chosen[seed % len(chosen)]
    return name, phase, random.Random(f"workload {seed}").choice(workloads)
