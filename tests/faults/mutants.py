"""The negative control: with a bug planted (router/model/mutant.hpp), the matrix must fail.

Only the bugs whose damage shows when something dies: the others are tests/random/mutants' matter.
"""
import os
import pathlib
import time
import xml.etree.ElementTree as xml

import kit

BINARY = os.environ.get("MUTANTS_BINARY", str(kit.ROOT / "build" / "mutants" / "banyan"))
# name: the cells (fault, phase, workload) that must notice it, tried in turn.
MUTANTS = {
    "no_journal": [("kill9 at commit_sent", "dual_write", "append"), ("kill9 at commit_answered", "dual_write", "append")],
    "journal_after_commit": [("kill9 at journal", "dual_write", "append")],
    "recovery_does_not_wait": [("banyan kill9, its last COMMITs stalled", "dual_write", "append"),
                               ("banyan kill9, its last COMMITs stalled", "dual_write", "bank")],
    "mirror_commits_first": [("source COMMIT held back", "dual_write", "append"), ("source COMMIT held back", "dual_write", "bank")],
}


def hunt(options, perform, report_of):
    names = options.only.split(",") if options.only else list(MUTANTS)
    if not pathlib.Path(BINARY).exists():
        raise SystemExit(f"run: {BINARY} is not there: cmake --preset mutants && cmake --build --preset mutants")
    kit.BINARY = BINARY
    survivors, broken, began = [], [], time.monotonic()
    # The same cells without a bug: they must pass, or being caught means nothing.
    report = report_of(options.keep, options.verbose)
    plain = dict.fromkeys(cell for name in names for cell in MUTANTS[name])
    perform([(seed, *cell, False, None) for seed, cell in enumerate(plain, 1)], options.jobs, report)
    broken = report.failed()
    for name in names:
        caught = None
        for attempt in range(1, 7):
            report = report_of(pathlib.Path(options.keep) / "mutants", False)
            perform([(attempt * 10 + number, *cell, False, {"BANYAN_MUTANT": name}) for number, cell in enumerate(MUTANTS[name])],
                    options.jobs, report)
            caught = next(((run, problems) for run, problems, _ in report.results if problems), None)
            if caught:
                break
        print(f"{name:34} {'caught: ' + caught[0] if caught else 'SURVIVED'}", flush=True)
        print(f"{'':34} {caught[1][0][:200]}" if caught else "", flush=True)
        if not caught:
            survivors.append(name)
    print(f"{len(names) - len(survivors)} of {len(names)} mutants caught, in {time.monotonic() - began:.0f} s")
    if options.junitxml:
        suite = xml.Element("testsuite", name="fault-mutants")
        for name in [*names, *broken]:
            case = xml.SubElement(suite, "testcase", classname="fault-mutants", name=name)
            if name in survivors or name in broken:
                xml.SubElement(case, "failure", message="survived" if name in survivors else "failed without a bug")
        xml.ElementTree(suite).write(options.junitxml)
    return 1 if survivors or broken else 0
