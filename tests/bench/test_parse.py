"""Output of pgbench, sysbench and strace as they print it."""
import pytest

import parse

PGBENCH = """transaction type: <builtin: select only>
number of clients: 8
number of transactions actually processed: 73922
number of failed transactions: 3 (0.004%)
latency average = 0.108 ms
initial connection time = 12.313 ms
tps = 74297.798264 (without initial connection time)
"""
SYSBENCH = """SQL statistics:
    transactions:                        1289   (1262.74 per sec.)
    ignored errors:                      2      (1.96 per sec.)
Latency (ms):
         min:                                    2.10
         avg:                                    6.30
         99th percentile:                       23.52
         max:                                   32.39
         sum:                                 8123.40
"""
STRACE = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 40.00    0.400000          48      8343           sendto
 30.00    0.300000          35      8341        12 recvfrom
 20.00    0.200000          61      3234           epoll_wait
 10.00    0.100000          11      8403           epoll_ctl
------ ----------- ----------- --------- --------- ----------------
100.00    1.000000          35     28321        12 total
"""


def test_pgbench_summary():
    assert parse.pgbench_summary(PGBENCH) == {"tps": 74297.798264, "transactions": 73922, "failed": 3}


def test_reconnecting_is_part_of_the_rate():
    text = PGBENCH.replace("tps = 74297.798264 (without initial connection time)", "tps = 269.632559 (including reconnection times)")
    assert parse.pgbench_summary(text)["tps"] == 269.632559


def test_words_that_are_no_summary_are_not_taken_for_one():
    with pytest.raises(ValueError):
        parse.pgbench_summary("pgbench: error: connection to server failed")


def test_a_log_has_when_each_transaction_ended_and_what_the_client_waited():
    lines = ["0 1 120 0 1700000000 500000\n", "1 1 90 0 1700000001 0\n", "1 2 failed 0 1700000001 100\n"]
    assert parse.pgbench_log(lines) == [(1700000000.5, 120), (1700000001.0, 90)]


def test_how_late_a_paced_transaction_began_is_not_what_the_client_waited():
    assert parse.pgbench_log(["0 1 5120 0 1700000000 0 5000\n", "0 2 skipped 0 1700000000 0 9000\n"]) == [(1700000000.0, 120)]


def test_latencies():
    assert parse.latencies([(0, value) for value in (5, 1, 4, 2, 3)]) == {"p50_us": 3, "p99_us": 5, "max_us": 5}


def test_sysbench_summary():
    assert parse.sysbench_summary(SYSBENCH) == {"tps": 1262.74, "transactions": 1289, "p99_us": 23520.0, "max_us": 32390.0, "failed": 0}


def test_strace_counts():
    assert parse.strace_counts(STRACE) == {"sendto": (8343, 0), "recvfrom": (8341, 12), "epoll_wait": (3234, 0), "epoll_ctl": (8403, 0)}


def test_system_calls_of_a_transaction():
    found = parse.system_calls(parse.strace_counts(STRACE), 4000)
    assert found == {"sends": 8343 / 4000, "receives": 8341 / 4000, "again": 12 / 4000, "waits": 3234 / 4000, "others": 8403 / 4000}
