#!/usr/bin/python3
"""Prints what the demo showed, and exits 1 unless everything is as it must be.

    report.py DIR --source DSN --target DSN

Reads DIR/lead.json (lead.py), DIR/shop.json (shop_workload.py) and, for each pgbench, DIR/NAME.out,
DIR/NAME.err, DIR/NAME.exit and its per-second logs DIR/NAME.log.*. The workload has ended and the
phase is COMPLETE, so what the clients were told is now checked against the target.
"""
import argparse
import glob
import json
import os
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import compare  # noqa: E402


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def pgbench(directory, name):
    """(transactions, failed, longest wait in ms, its second, messages); a missing number is a failure."""
    out, errors = read(f"{directory}/{name}.out"), read(f"{directory}/{name}.err")
    processed = re.search(r"transactions actually processed: (\d+)", out)
    failed = re.search(r"number of failed transactions: (\d+)", out)
    messages = [line for line in errors.splitlines() if re.search("error|abort|fatal|fail", line, re.IGNORECASE)]
    code = read(f"{directory}/{name}.exit").strip()
    if code != "0":
        messages.append(f"exit code {code or 'unknown'}")
    longest, when = 0.0, 0.0
    for path in glob.glob(f"{glob.escape(directory)}/{name}.log.*"):
        for line in read(path).splitlines():
            fields = line.split()
            if len(fields) > 5 and float(fields[5]) / 1000 > longest:
                longest, when = float(fields[5]) / 1000, float(fields[0])
    count = int(processed.group(1)) if processed else 0
    bad = (int(failed.group(1)) if failed else 0) + (len(messages) if messages or not processed else 0)
    if not processed and not messages:
        bad += 1
        messages.append("no result")
    return count, bad, longest, when, messages


def phase_at(lead, moment):
    """Phase names repeat, so the second visit of one is marked."""
    seen, found = {}, "?"
    for phase in lead.get("phases", []):
        seen[phase["phase"]] = seen.get(phase["phase"], 0) + 1
        # pgbench's times are whole seconds.
        if phase["entered"] <= moment + 1:
            found = phase["phase"] + (f" ({seen[phase['phase']]}nd time)" if seen[phase["phase"]] > 1 else "")
    return found


def promises(target_dsn, processed, shop):
    """What the clients were told is committed, against the target alone."""
    problems = []
    connection = compare.connect(target_dsn)
    try:
        sums = compare.query(connection, """
            select (select sum(abalance) from public.pgbench_accounts), (select sum(bbalance) from public.pgbench_branches),
                   (select sum(tbalance) from public.pgbench_tellers), (select coalesce(sum(delta), 0) from public.pgbench_history),
                   (select count(*) from public.pgbench_history)""")[0]
        if len(set(sums[:4])) != 1:
            problems.append(f"pgbench's balances do not add up on the target: accounts {sums[0]}, branches {sums[1]}, "
                            f"tellers {sums[2]}, history {sums[3]}")
        if sums[4] != processed:
            problems.append(f"pgbench was told of {processed} transactions, the target has {sums[4]}")
        receipts = {str(worker): (count, last) for worker, count, last in compare.query(
            connection, "select worker, count(*), max(number) from shop.receipts group by 1")}
        for worker, number in shop.get("receipts", {}).items():
            if receipts.get(worker, (0, 0)) != (number, number) and number + shop.get("receipts_unsure", 0) > 0:
                problems.append(f"shop worker {worker} was told of {number} commits, the target has {receipts.get(worker)}")
    finally:
        connection.close()
    return problems


def show(title, heads, rows):
    print(f"\n{title}")
    widths = [max(len(str(row[column])) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, *rows]:
        cells = [str(cell).ljust(width) if column == 0 or not str(cell)[:1].isdigit() and row is not heads else str(cell).rjust(width)
                 for column, (cell, width) in enumerate(zip(row, widths))]
        print("  " + "  ".join(cells).rstrip())
        if row is heads:
            print("  " + "  ".join("-" * width for width in widths))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    arguments = parser.parse_args()
    directory = arguments.directory
    lead = json.loads(read(f"{directory}/lead.json") or "{}")
    shop = json.loads(read(f"{directory}/shop.json") or "{}")
    problems = list(lead.get("problems", ["nobody led the migration"]))

    rows, total, failed, processed = [], 0, 0, 0
    for mode in ("simple", "extended", "prepared", "select"):
        count, bad, longest, when, messages = pgbench(directory, f"pgbench-{mode}")
        rows.append((f"pgbench {mode}", count, bad, f"{longest:.1f} ms", phase_at(lead, when)))
        problems += [f"pgbench {mode}: {message}" for message in messages[:5]]
        total, failed = total + count, failed + bad
        processed += count if mode != "select" else 0  # which leaves no row behind
        if count == 0:
            problems.append(f"pgbench {mode} did nothing")
    bad = shop.get("failed", 1)
    longest = (shop.get("longest_waits") or [{"ms": 0, "at": 0, "operation": "?"}])[0]
    rows.append(("shop", shop.get("transactions", 0), bad, f"{longest['ms']:.1f} ms",
                 f"{phase_at(lead, longest['at'] - 1)}, {longest['operation']}"))
    problems += [f"shop: {error}" for error in shop.get("errors", ["no summary"])[:5]]
    total, failed = total + shop.get("transactions", 0), failed + bad
    rows.append(("total", total, failed, "", ""))
    if failed:
        problems.append(f"{failed} failed transactions")
    show("Clients, through Banyan from the first phase to the last",
         ("workload", "transactions", "failed", "longest wait", "when"), rows)

    if lead.get("tables"):
        show("Both sides in SWITCHOVER, under load, by SQL (settled key by key)", ("table", "source rows", "target rows", "equal"),
             [(table["table"], table["source_rows"], table["target_rows"],
               "yes" if table["equal"] else f"NO: {table['differing_count']} keys") for table in lead["tables"]])
    else:
        problems.append("the two sides were never compared")

    show("Phases", ("phase", "time"),
         [(phase["phase"], f"{phase['left'] - phase['entered']:.1f} s") for phase in lead.get("phases", [])])
    for flip in lead.get("flips", []):
        print(f"  clients held for {flip['pause_ms']:.1f} ms from {flip['from']} to {flip['to']}")
    found, shadow = lead.get("discrepancies", {}), lead.get("shadow", {})
    print(f"\nShadow reads: {shadow.get('matched', '?')} matched, {found.get('confirmed', '?')} confirmed discrepancies, "
          f"{found.get('raced', '?')} raced, {shadow.get('skipped', '?')} skipped")

    if lead.get("phases") and lead["phases"][-1]["phase"] == "COMPLETE":
        broken = promises(arguments.target, processed, shop)
        problems += broken
        if not broken:
            print(f"In COMPLETE the target has every one of {processed} pgbench transactions and "
                  f"{sum(shop.get('receipts', {}).values())} shop receipts that clients were told of; balances add up.")
    else:
        problems.append("the migration did not reach COMPLETE")
    if problems:
        print("\nNOT as it must be:")
        for problem in dict.fromkeys(problems):
            print("  - " + problem)
        return 1
    print(f"\nEverything is as it must be ({time.strftime('%H:%M:%S')}).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
