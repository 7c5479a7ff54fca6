"""The tables of a run, as text and as Markdown. Pure."""
from figures import spread
from rows import LEFT_OUT, decimals, outcomes

HEAD = ["figure of Banyan", "against", "value", "spread", "bound", "met", "Banyan", "the other", "rounds"]
# Columns of the second table: of each way, what was measured.
SHOWN = [
    ("tps", "per second", 0), ("p50_us", "p50 us", 0), ("p99_us", "p99 us", 0), ("cpu_us", "CPU us", 1), ("shadowed_share", "of reads shadowed", 2),
    ("repaired", "keys repaired", 0), ("busiest_share", "of CPU, the busiest thread", 2), ("pss_kb", "PSS kB", 0), ("mb_per_second", "MB/s", 0), ("seconds", "seconds", 2), ("rows_per_second", "rows/s", 0),
    ("sends", "sends", 2), ("receives", "receives", 2), ("again", "EAGAIN", 2), ("waits", "waits", 2), ("others", "other calls", 2),
    ("pause_ms", "pause ms", 1), ("wait_ms", "longest wait ms", 1), ("wait_before_ms", "before ms", 1),
    ("growth_kb", "PSS grew by kB", 0), ("received_kb", "received kB", 0), ("sessions", "sessions", 0), ("pss_per_session_kb", "PSS kB/session", 1), ("rss_per_session_kb", "RSS kB/session", 1)]


def number(value, places):
    return f"{value:,.{places}f}"


def with_unit(value, unit, places):
    if not unit:
        return number(value, places)
    return f"{number(value, places)}{'' if unit == 'x' else ' '}{unit}"


def detail(spread_, unit):
    """About three digits of it."""
    value = spread_.median
    return with_unit(value, unit, 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2)


def table_rows(results):
    """HEAD's columns of each row of the table."""
    found = []
    for outcome in outcomes(results):
        if outcome.why == LEFT_OUT:
            continue
        row, figure, places = outcome.row, outcome.figure, decimals(outcome.row.unit)
        bound = f"{row.sign} {with_unit(row.bound, row.unit, places)}"
        if figure is None:
            found.append([row.figure, row.against, "not measured", outcome.why, bound, "", "", "", ""])
            continue
        low, high = (number(value, places) for value in (figure.value.low, figure.value.high))
        ours = "" if figure.value == figure.ours else detail(figure.ours, row.detail)
        found.append([row.figure, row.against, with_unit(figure.value.median, row.unit, places), f"{low} to {high}", bound, "yes" if outcome.met else "NO",
                      ours, detail(figure.theirs, row.detail) if figure.theirs else "", str(figure.rounds)])
    return found


def notes(results):
    seen, found = set(), []
    for outcome in outcomes(results):
        if outcome.figure and outcome.figure.note and outcome.figure.note not in seen:
            seen.add(outcome.figure.note)
            found.append(f"{outcome.row.figure}: {outcome.figure.note}")
    return found


def verdict(results):
    """"12 of 20 bounds met, 2 not measured, 1 left out"."""
    found = outcomes(results)
    met, left_out = sum(outcome.met is True for outcome in found), sum(outcome.why == LEFT_OUT for outcome in found)
    missing = sum(outcome.met is None for outcome in found) - left_out
    return f"{met} of {len(found)} bounds met" + (f", {missing} not measured" if missing else "") + (f", {left_out} left out" if left_out else "")


def measured(results, name):
    """The second table's part for one measurement: head and rows, medians with their spread."""
    samples, errors = results[name]["samples"], results[name]["errors"]
    columns = [column for column in SHOWN if any(column[0] in sample for of_way in samples.values() for sample in of_way)]
    rows = []
    for way in results[name]["ways"]:
        if way in errors:
            rows.append([way, f"not measured: {errors[way]}", *[""] * (len(columns) - 1), ""])
            continue
        cells = []
        for key, _, places in columns:
            values = [sample[key] for sample in samples.get(way, []) if key in sample]
            cells.append(cell(spread(values), places) if values else "")
        rows.append([way, *cells, str(len(samples.get(way, [])))])
    return ["way", *[column[1] for column in columns], "rounds"], rows


def cell(found, places):
    """The median, and how far the rounds lie from it."""
    if found.low == found.high:
        return number(found.median, places)
    return f"{number(found.median, places)} ({number(found.low, places)} to {number(found.high, places)})"


def markdown_table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(each).replace("|", "\\|").replace("\n", " ") for each in line) + " |" for line in lines)


def text_table(head, rows):
    lines = [head, *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(head))]
    # What is not measured says why over the other columns' width.
    widths[3] = min(widths[3], max((len(line[3]) for line in lines if line[2] != "not measured"), default=6))
    return "\n".join("  ".join(value.ljust(width) for value, width in zip(line, widths)).rstrip() for line in lines)


def as_text(document):
    results = document["measurements"]
    parts = [text_table(HEAD, table_rows(results)), *notes(results), verdict(results), *(f"problem: {problem}" for problem in document["problems"])]
    return "\n".join(parts) + "\n"


def as_markdown(document):
    results = document["measurements"]
    settings, machine = document["settings"], document["machine"]
    quick = "; --quick: less data than is said below, and the values mean little" if settings["quick"] else ""
    parts = [
        "# Benchmark",
        f"{machine['processors']} processors, {machine['memory_gb']} GB of memory, {machine['kernel']}, load {machine['load_before']} when it began; "
        f"{', '.join(machine['versions'])}. {settings['rounds']} rounds of {settings['seconds']} s, in turn{quick}. "
        "Value: the median of the rounds' values; spread: the least and the greatest.",
        markdown_table(HEAD, table_rows(results)),
        "\n".join(f"- {note}" for note in notes(results)),
        f"**{verdict(results)}.**",
        "\n".join(f"- problem: {problem}" for problem in document["problems"]),
        "## Every measurement",
    ]
    for name in results:
        head, rows = measured(results, name)
        parts += [f"### {results[name]['title']}", markdown_table(head, rows)]
    return "\n\n".join(part for part in parts if part) + "\n"
