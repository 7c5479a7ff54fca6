#!/usr/bin/python3
"""A shop's live traffic: several sessions that buy, change, move, cancel and read without a pause.

    shop_workload.py DSN --summary FILE [--workers 4] [--rate 20] [--seed N]

Runs until SIGTERM or SIGINT, then writes a JSON summary: transactions, failures (any error at all;
nothing is retried, a lost connection is a failure), the longest wait for one statement, and how many
receipts each worker was told are committed. Exit code 0 only if nothing failed. Workers never wait
for each other in a circle, so that a deadlock would be somebody else's fault.
"""
import argparse
import collections
import json
import random
import signal
import sys
import threading
import time
import traceback
import uuid

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras

AWKWARD = [
    "", " ", "'", "''", '"', "\\", "\\\\", "\\N", "\\.", "\t", "\n", "\r\n", "\x01\x1f\x7f", "%s %d %%", "$1 $$ $a$", ";",
    "--", "/*", "*/", "?", ":x", "{}", "{\"a\",NULL}", "()", "(,)", "NULL", "null", "\u00e4\u00f6\u00fc\u00df", "e\u0301", "\u202eabc",
    "\u200b", "\ufeff", "\u6f22\u5b57", "\u0639\u0631\u0628", "\U0001F333\U0001F469\u200d\U0001F4BB", "\U0010FFFF", "x" * 3000, "\\x00ff", "E'\\n'",
    "0", "1e400", "NaN",
]
NUMBERS = ["0", "0.00", "-0.000000001", "1e-20", "123456789012345678901234567890.0987654321", "NaN", "Infinity", "-Infinity"]
MOMENTS = ["now", "infinity", "-infinity", "epoch", "0044-03-15 12:00:00+00 BC", "2024-02-29 23:59:59.999999-12",
           "99999-12-31 00:00:00+00"]
STATES = ["new", "paid", "shipped", "cancelled"]


class Worker(threading.Thread):
    def __init__(self, number, arguments, stop):
        super().__init__(name=f"worker {number}", daemon=True)
        self.number = number
        self.rate = arguments.rate
        self.dsn = arguments.dsn
        self.stop_event = stop
        self.random = random.Random(f"{arguments.seed}/{number}")
        self.connection = None
        self.transactions = 0
        self.by_operation = collections.Counter()
        self.errors = []
        self.failures = 0
        self.waits = []  # the longest: (seconds, when, operation)
        self.operation = "connect"
        self.receipts = 0
        self.unsure = 0  # receipts whose outcome an error left open
        self.customers = []
        self.orders = []

    # --- one statement at a time, timed ---

    def execute(self, sql, parameters=None):
        started = time.monotonic()
        try:
            self.cursor.execute(sql, parameters)
            return self.cursor.fetchall() if self.cursor.description else []
        finally:
            self.waited(started)

    def commit(self):
        started = time.monotonic()
        try:
            self.connection.commit()
        finally:
            self.waited(started)

    def waited(self, started):
        seconds = time.monotonic() - started
        if len(self.waits) < 20 or seconds > self.waits[-1][0]:
            self.waits.append((seconds, time.time() - seconds, self.operation))
            self.waits.sort(reverse=True)
            del self.waits[20:]

    def connect(self):
        self.operation = "connect"
        started = time.monotonic()
        self.connection = psycopg2.connect(self.dsn, application_name=f"shop {self.number}", connect_timeout=30)
        self.waited(started)
        self.cursor = self.connection.cursor()
        psycopg2.extras.register_uuid(conn_or_curs=self.connection)
        # Dates before Christ and at the end of time are beyond Python's own.
        psycopg2.extensions.register_type(
            psycopg2.extensions.new_type((1082, 1184), "AS_TEXT", lambda value, _: value), self.connection)
        if not self.receipts:
            self.receipts = self.autocommit("select coalesce(max(number), 0) from shop.receipts where worker = %s",
                                            (self.number,))[0][0]

    def run(self):
        operations = [(getattr(self, name), weight) for name, weight in (
            ("buy", 6), ("register", 2), ("change_profile", 3), ("import_customers", 1), ("pay", 3), ("cancel_order", 2),
            ("forget_customer", 1), ("move_stock", 3), ("swap_savepoints", 2), ("write_notes", 3), ("enqueue", 3),
            ("take_job", 5), ("finish_jobs", 1), ("reprice", 1), ("look_around", 6), ("report", 3), ("roll_back", 1),
        )]
        functions, weights = zip(*operations)
        try:
            while not self.stop_event.is_set():
                began = time.monotonic()
                function = self.random.choices(functions, weights)[0]
                try:
                    if self.connection is None:
                        self.connect()
                    self.operation = function.__name__
                    function()
                    self.transactions += 1
                    self.by_operation[function.__name__] += 1
                except psycopg2.Error as error:
                    self.failed(error)
                pause = self.random.expovariate(self.rate) - (time.monotonic() - began)
                if pause > 0:
                    self.stop_event.wait(min(pause, 1.0))
        except Exception:  # a bug here must not pass for success
            self.failures += 1
            self.errors.append(traceback.format_exc())
        finally:
            if self.connection is not None:
                self.connection.close()

    def failed(self, error):
        self.failures += 1
        if len(self.errors) < 20:
            self.errors.append(f"{time.strftime('%H:%M:%S')} {self.operation}: {error.pgcode} {str(error).strip()}")
        try:
            self.connection.rollback()
        except (psycopg2.Error, AttributeError):
            if self.connection is not None:
                self.connection.close()
            self.connection = None
            self.stop_event.wait(0.2)

    # --- helpers ---

    def text(self):
        return "".join(self.random.choices(AWKWARD, k=self.random.randint(1, 3)))

    def receipt(self):
        """Ends a transaction; the number counts only once the server has said that it is committed."""
        self.execute("insert into shop.receipts (worker, number) values (%s, %s)",
                     (self.number, self.receipts + self.unsure + 1))
        self.unsure += 1
        self.commit()
        self.unsure -= 1
        self.receipts += 1

    def autocommit(self, sql, parameters=None):
        self.connection.autocommit = True
        try:
            return self.execute(sql, parameters)
        finally:
            if not self.connection.closed:
                self.connection.autocommit = False

    def some_customer(self):
        return self.random.choice(self.customers) if self.customers else None

    # --- writes ---

    def register(self):
        email = f"w{self.number}.{uuid.uuid4()}@example.com"
        rows = self.autocommit(
            "insert into shop.customers (email, name, tags, profile) values (%s, %s, %s, %s) returning *",
            (email, self.text(), [self.text() for _ in range(3)], psycopg2.extras.Json({"note": self.text(), "n": [1, 2.5, None]})))
        self.customers.append(rows[0][0])

    def change_profile(self):
        # Conflicting keys on purpose: the mail addresses are shared by all workers.
        self.autocommit(
            "insert into shop.customers (email, name) values (%s, %s) on conflict (email) do update "
            "set name = excluded.name, profile = shop.customers.profile || jsonb_build_object('seen', now()), lucky = random()",
            (f"shared{self.random.randint(1, 30)}@example.com", self.text()))

    def import_customers(self):
        self.execute(
            "insert into shop.customers (email, name, vip) select 'import.' || gen_random_uuid() || '@example.com', "
            "'imported ' || n, n %% 2 = 0 from generate_series(1, %s) n returning id", (self.random.randint(1, 20),))
        self.execute("insert into shop.customers (email, name) values (%s, %s), (%s, upper('third')) "
                     "returning id, lucky, created_at",
                     (f"{uuid.uuid4()}@example.com", self.text(), f"{uuid.uuid4()}@example.com"))
        self.receipt()

    def buy(self):
        customer = self.some_customer()
        if customer is None:
            return self.register()
        order = self.execute(
            "insert into shop.orders (customer_id, note, promised) values (%s, %s, %s) returning id, placed_at",
            (customer, self.text(), f"{self.random.randint(1, 9)} days 03:04:05.678"))[0][0]
        lines = self.random.randint(1, 5)
        self.execute(
            "insert into shop.order_items (order_id, line, sku, quantity, price) "
            "select %s, row_number() over (), sku, 1 + floor(random() * 5), price from "
            "(select sku, price from shop.products order by random() limit %s) p", (order, lines))
        self.execute(
            "update shop.orders o set total = s.total from (select order_id, sum(cost) as total from shop.order_items "
            "where order_id = %s group by 1) s where o.id = s.order_id returning o.id, o.total", (order,))
        self.receipt()
        self.orders.append(order)

    def pay(self):
        if not self.orders:
            return self.buy()
        order = self.random.choice(self.orders)
        self.autocommit("update shop.orders set state = %s where id = %s", (self.random.choice(STATES), order))

    def cancel_order(self):
        if len(self.orders) < 5:
            return self.buy()
        order = self.orders.pop(self.random.randrange(len(self.orders)))
        if self.random.random() < 0.5:
            self.autocommit("delete from shop.orders where id = %s", (order,))  # its items go by cascade
        else:
            self.execute("delete from shop.order_items i using shop.orders o where o.id = i.order_id and o.id = %s "
                         "returning i.line, o.note", (order,))
            self.execute("delete from shop.orders where id = %s returning *", (order,))
            self.receipt()

    def forget_customer(self):
        if len(self.customers) < 10:
            return self.register()
        customer = self.customers.pop(0)
        gone = [row[0] for row in self.execute("select id from shop.orders where customer_id = %s order by id", (customer,))]
        self.execute("delete from shop.customers where id = %s", (customer,))  # orders and their items by cascade
        self.receipt()
        self.orders = [order for order in self.orders if order not in set(gone)]

    def move_stock(self):
        # A changed key: this worker's shelves only, so that no two workers lock in a circle.
        low = 1000 * (self.number + 1)
        taken = self.execute("select warehouse, shelf from shop.stock where shelf between %s and %s order by 1, 2",
                             (low, low + 99))
        if len(taken) < 20:
            shelf = self.random.choice(sorted(set(range(low, low + 100)) - {row[1] for row in taken}))
            self.execute("insert into shop.stock (warehouse, shelf, sku, quantity) select 'north', %s, sku, 1 from shop.products "
                         "order by sku limit 1", (shelf,))
        else:
            warehouse, shelf = self.random.choice(taken)
            free = self.random.choice(sorted(set(range(low, low + 100)) - {row[1] for row in taken}))
            self.execute("update shop.stock set warehouse = %s, shelf = %s, quantity = quantity + 1 "
                         "where warehouse = %s and shelf = %s",
                         (self.random.choice(["north", "south", "\u00dcbersee"]), free, warehouse, shelf))
        self.receipt()

    def swap_savepoints(self):
        low = 1000 * (self.number + 1)
        self.execute("savepoint one")
        self.execute("insert into shop.notes (author, body) values (%s, 'never seen'), (%s, 'never seen either')",
                     (self.number, self.number))
        self.execute("update shop.stock set quantity = -1 where shelf between %s and %s", (low, low + 99))
        self.execute("rollback to savepoint one")
        self.execute("insert into shop.notes (author, body) values (%s, %s)", (self.number, self.text()))
        self.execute("savepoint two")
        self.execute("update shop.stock set quantity = quantity + 1 where shelf between %s and %s", (low, low + 49))
        self.execute("release savepoint two")
        self.execute("savepoint three")
        try:
            self.execute("insert into shop.order_items values (-1, 1, gen_random_uuid(), 1, 1)")  # no such order
            raise AssertionError("the foreign key did not hold")
        except psycopg2.errors.ForeignKeyViolation:
            self.execute("rollback to savepoint three")
        self.receipt()

    def write_notes(self):
        pick = self.random
        self.autocommit(
            "insert into shop.notes (author, body, raw, amount, ratio, moment, document, words, states) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s, %s::shop.order_state[])",
            (self.number, self.text(), psycopg2.Binary(pick.randbytes(pick.choice([0, 1, 50, 3000]))), pick.choice(NUMBERS),
             pick.choice([0.1, 1 / 3, 5e-324, 1.7976931348623157e308, float("nan"), float("-inf"), -0.0]), pick.choice(MOMENTS),
             psycopg2.extras.Json({self.text(): [self.text(), 0.1, 10 ** 30, True, {}]}),
             [pick.choice([self.text(), None]) for _ in range(pick.randint(0, 4))], pick.sample(STATES, pick.randint(0, 3))))
        if pick.random() < 0.3:
            self.autocommit("delete from shop.notes where id in (select id from shop.notes where author = %s order by id limit 2)",
                            (self.number,))

    def enqueue(self):
        self.autocommit("insert into shop.jobs (kind, payload) values (%s, %s), ('clean', default), ('mail', '{\"to\": null}')",
                        (self.text(), psycopg2.extras.Json({"worker": self.number})))

    def take_job(self):
        jobs = self.autocommit(
            "update shop.jobs set state = 'taken', worker = %s, token = gen_random_uuid(), taken_at = clock_timestamp() "
            "where id = (select id from shop.jobs where state = 'ready' order by id for update skip locked limit 1) returning *",
            (f"shop {self.number}",))
        if jobs and self.random.random() < 0.7:
            self.execute("update shop.jobs set state = 'done' where id = %s", (jobs[0][0],))
            self.receipt()

    def finish_jobs(self):
        self.autocommit("delete from shop.jobs where id in (select id from shop.jobs where state = 'done' and worker = %s "
                        "order by id limit 10 for update skip locked)", (f"shop {self.number}",))

    def reprice(self):
        # One row by its key; several workers may want the same one, and then wait for each other in turn.
        self.autocommit("update shop.products set price = price * (0.9 + random()::numeric * 0.2), picture = decode(md5(random()::text), 'hex') "
                        "where sku = (select sku from shop.products order by sku offset %s limit 1)", (self.random.randint(0, 19),))

    def roll_back(self):
        self.execute("insert into shop.customers (email, name) values (%s, 'rolled back')", (f"{uuid.uuid4()}@example.com",))
        self.execute("update shop.orders set note = 'rolled back' where id = %s", (self.random.choice(self.orders or [0]),))
        started = time.monotonic()
        self.connection.rollback()
        self.waited(started)

    # --- reads ---

    def look_around(self):
        self.autocommit("select id, email, name, tags, profile, lucky from shop.customers where id = %s",
                        (self.random.choice(self.customers or [1]),))
        self.autocommit("select o.id, o.state, o.total, i.line, i.quantity, i.price, p.title from shop.orders o "
                        "join shop.order_items i on i.order_id = o.id join shop.products p using (sku) "
                        "where o.id = %s order by i.line", (self.random.choice(self.orders or [1]),))
        self.autocommit("select * from shop.notes where author = 0 order by id")

    def report(self):
        self.autocommit("select state, count(*), round(avg(total), 2) from shop.orders where id <= 15000 group by state order by state")
        self.autocommit("select warehouse, count(*), sum(quantity) from shop.stock where shelf < 1000 group by 1")
        self.autocommit("select sku, title, search from shop.products where title like %s order by title, sku limit 20", ("Product 1%",))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dsn")
    parser.add_argument("--summary", required=True)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=20.0, help="transactions per second and worker")
    parser.add_argument("--seed", default="banyan")
    arguments = parser.parse_args()

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    began = time.time()
    workers = [Worker(number, arguments, stop) for number in range(arguments.workers)]
    for worker in workers:
        worker.start()
    while not stop.wait(0.5):
        pass
    for worker in workers:
        worker.join(timeout=60)

    waits = sorted((wait for worker in workers for wait in worker.waits), reverse=True)[:20]
    failures = sum(worker.failures + worker.is_alive() for worker in workers)
    summary = {
        "began": began,
        "ended": time.time(),
        "transactions": sum(worker.transactions for worker in workers),
        "failed": failures,
        "errors": [error for worker in workers for error in worker.errors][:20],
        "longest_wait_ms": round(1000 * waits[0][0], 1) if waits else 0,
        "longest_waits": [{"ms": round(1000 * seconds, 1), "at": at, "operation": operation} for seconds, at, operation in waits],
        "by_operation": dict(sum((worker.by_operation for worker in workers), collections.Counter())),
        "receipts": {str(worker.number): worker.receipts for worker in workers},
        "receipts_unsure": sum(worker.unsure for worker in workers),
    }
    with open(arguments.summary, "w", encoding="utf-8") as file:
        json.dump(summary, file, indent=1)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
