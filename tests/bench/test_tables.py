"""From samples to rows, tables and the picture."""
import xml.etree.ElementTree

import pytest

import pictures
import plot
import rows
import tables
from figures import Spread
from names import BANYAN, DIRECT, HAPROXY, INITIAL, PGBOUNCER, PGCOPYDB


def results(**measurements):
    """measurement={way: [sample] or an error}"""
    return {name.replace("_", "-"): {"title": name, "ways": list(ways), "samples": {way: found for way, found in ways.items() if isinstance(found, list)},
                                     "errors": {way: found for way, found in ways.items() if isinstance(found, str)}}
            for name, ways in measurements.items()}


def outcome(figure, found):
    return next(each for each in rows.outcomes(found) if each.row.figure == figure)


CPU = "processor time, -S prepared, INITIAL, 8 clients"
TPS = "rate, -S prepared, INITIAL, 8 clients"


@pytest.mark.parametrize("ours, met", [(10.0, True), (9.0, True), (10.04, True), (10.06, False), (12.0, False)])
def test_what_is_shown_as_the_bound_meets_it(ours, met):
    found = results(read_prepared_8={INITIAL: [{"cpu_us": ours}], PGBOUNCER: [{"cpu_us": 10.0}]})
    assert outcome(CPU, found).met is met


def test_the_median_of_the_rounds_decides():
    found = results(read_prepared_8={INITIAL: [{"tps": 9}, {"tps": 30}, {"tps": 11}], PGBOUNCER: [{"tps": 10}, {"tps": 10}, {"tps": 10}]})
    it = outcome(TPS, found)
    assert it.met and it.figure.value == Spread(1.1, 0.9, 3.0) and it.figure.rounds == 3


@pytest.mark.parametrize("found, why", [
    ({}, "left out"),
    (results(read_prepared_8={INITIAL: [{"tps": 1}], PGBOUNCER: "pgbouncer is not installed"}), "PgBouncer: pgbouncer is not installed"),
    (results(read_prepared_8={INITIAL: [{"tps": 1}]}), "left out"),
    (results(read_prepared_8={INITIAL: [{}], PGBOUNCER: [{"tps": 1}]}), "KeyError: 'tps'")])
def test_what_was_not_measured_says_why(found, why):
    it = outcome(TPS, found)
    assert it.figure is None and it.met is None and it.why == why


def test_durations_are_compared_as_rates():
    it = outcome("rate, full verification", results(verification={BANYAN: [{"seconds": 10.0}], "SQL": [{"seconds": 8.0}]}))
    assert it.met and it.figure.value.median == 0.8


def test_the_longest_of_all_flips_counts():
    sample = {"longest_ms": 40, "pause_ms": 10, "wait_before_ms": 5, "failed": 0}
    found = results(switchover={"to the target": [sample, sample | {"longest_ms": 101}], "back to the source": [sample]})
    assert not outcome("longest wait of a client in a switchover, 32 clients", found).met
    assert outcome("transactions failed in a switchover", found).met


def test_what_stands_beside_may_be_missing():
    calls = {"sends": 2.01, "receives": 2.0, "again": 0.001, "waits": 0.7, "others": 2.1}
    it = outcome("sends of a transaction, -S prepared, INITIAL", results(syscalls={INITIAL: [calls], HAPROXY: "no strace"}))
    assert it.met and it.figure.theirs is None and "epoll waits 0.7" in it.figure.note


DOCUMENT = {
    "machine": {"processors": 2, "memory_gb": 8, "kernel": "Linux", "load_before": 0.1, "versions": ["Banyan 1"]},
    "settings": {"rounds": 2, "seconds": 1, "quick": True}, "problems": ["backfill, pgcopydb: not measured: a | b"],
    "measurements": results(read_prepared_8={DIRECT: [{"tps": 100.0, "p50_us": 50}], INITIAL: [{"tps": 90.0, "p50_us": 60, "cpu_us": 9.0}],
                                             PGBOUNCER: [{"tps": 100.0, "p50_us": 61, "cpu_us": 10.0}]},
                            backfill={PGCOPYDB: "a | b", BANYAN: [{"seconds": 2.0, "rows_per_second": 5.0}]})}


def test_tables():
    text, markdown = tables.as_text(DOCUMENT), tables.as_markdown(DOCUMENT)
    assert "0.90x" in text and "not measured" in text and "problem: backfill" in text
    assert "1 of 21 bounds met, 1 not measured, 18 left out" in text
    assert "| Banyan INITIAL | 90 | 60 | 9.0 | 1 |" in markdown
    assert "COPY out" not in text, "what nobody asked for is counted, not listed"
    assert "a \\| b" in markdown, "a bar would end the cell"


def test_the_picture_is_xml_and_has_every_bar():
    root = xml.etree.ElementTree.fromstring(pictures.picture(DOCUMENT["measurements"]))
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert "direct: 0.1 (0.1 to 0.1)" in titles and any(title.startswith("PgBouncer: 10 ") for title in titles)


def test_the_picture_of_nothing_is_xml_too():
    assert xml.etree.ElementTree.fromstring(pictures.picture({})) is not None


@pytest.mark.parametrize("value, expected", [(0.3, 0.5), (1, 1), (3, 5), (10, 10), (11, 20), (2400, 2500), (99, 100), (0.011, 0.02)])
def test_scales_end_at_round_numbers(value, expected):
    assert plot.nice(value) == pytest.approx(expected)


def test_the_table_for_programs():
    found = rows.as_document(DOCUMENT["measurements"])
    assert found[0]["met"] is True and found[0]["value"] == {"median": 0.9, "low": 0.9, "high": 0.9} and found[0]["sign"] == "<="
    assert found[1] == {"figure": rows.ROWS[1].figure, "against": PGBOUNCER, "unit": "x", "sign": "<=", "bound": 1.0, "met": None, "why": "left out"}
