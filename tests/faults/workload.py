"""What the clients do, and an exact account of what became of it.

Every transaction has a token "client.number". It appends the token to the lists of one or more keys,
leaves receipts, moves money between accounts, or several of these; or it reads. Its outcome:
    ok         acknowledged: it must be there, whole, for good
    refused    an error came, or the connection went before its commit was sent: it must not be there
    unknown    the commit was sent and no answer came: there or not, but whole, and once
Clients reconnect. Every wait has a deadline; a client that reaches it has hung, which is a failure.
"""
import random
import re
import threading
import time

from wire import COPY_DONE, SYNC, Closed, Reply, Wire, WireError, bind, copy_data, describe, execute, parse, query

KEYS, ACCOUNTS, SETTLED, BALANCE = 8, 12, 5, 100
TOTAL = ACCOUNTS * BALANCE
SCHEMA = """
create table list (key int primary key, items text[] not null default '{}');
create table receipt (token text primary key, key int not null, at timestamptz not null default clock_timestamp());
create table account (id bigint primary key, balance int not null);
create table mark (id serial primary key, note text);
create table filler (id int primary key, v text not null);
"""
ROWS = f"""
insert into list (key) select generate_series(1, {KEYS});
insert into account select g, {BALANCE} from generate_series(1, {ACCOUNTS}) g;
insert into filler select g, repeat('x', 40) from generate_series(1, 600) g;
"""
WORKLOADS = ("append", "bank", "both")
# Of the class, or the whole code: what a client may be told when something dies. All else is a finding,
# but for conflicts that the workloads themselves provoke.
EXPECTED_ENDS = ("57P01", "57P02", "57P03", "08001", "08003", "08006")
CONFLICTS = ("40001", "40P01", "55P03", "23505")


class Transaction:
    __slots__ = ("client", "number", "kind", "keys", "receipts", "began", "ended", "outcome", "error", "seen")

    def __init__(self, client, number, kind):
        self.client, self.number, self.kind = client, number, kind
        self.keys, self.receipts, self.outcome, self.error, self.seen = [], False, None, "", None
        self.began = self.ended = 0.0

    @property
    def token(self):
        return f"{self.client}.{self.number}"

    def describe(self):
        return f"{self.token} {self.kind} keys {self.keys} {self.outcome} {self.began:.3f}-{self.ended:.3f} {self.error}".rstrip()


class Refused(Exception):
    """The server said ERROR: rolled back, the connection lives."""


class Lost(Exception):
    """The connection ended, or the server said FATAL."""


class Hung(Exception):
    pass


class Client:
    """One connection at a time, one transaction at a time."""

    def __init__(self, number, seed, dial, workload, deadline):
        self.number, self.dial, self.workload, self.deadline = number, dial, workload, deadline
        self.draw = random.Random(f"{seed} {number}")
        self.history, self.reads, self.problems, self.codes = [], [], [], {}
        self.wire = None
        self.count = 0
        self.lost = 0
        self.committing = False
        self.ready = False  # connected at least once, for the run to begin

    # --- the connection ---

    def connect(self):
        try:
            self.wire = self.dial(f"faults-{self.number}", self.deadline)
            self.ready = True
            return True
        except TimeoutError:
            self.problems.append(f"client {self.number}: a login took more than {self.deadline:.0f} s")
        except (OSError, Closed, WireError) as error:
            self.note(getattr(error, "sqlstate", None) or type(error).__name__, str(error))
        return False

    def note(self, code, text):
        self.codes[code] = self.codes.get(code, 0) + 1
        if len(code) == 5 and not code.startswith(EXPECTED_ENDS) and code not in CONFLICTS and code != "25P02":
            self.problems.append(f"client {self.number}: {code} {text[:200]}")

    def hang_up(self):
        if self.wire:
            try:
                self.wire.socket.close()
            except OSError:
                pass
            self.wire = None

    def exchange(self, *messages, until=b"Z"):
        got, end = [], None
        try:
            self.wire.send(*messages)
        except TimeoutError:
            raise Hung from None
        except OSError as error:
            end = str(error)  # what the server said before may still be there to be read
        try:
            while not got or got[-1][0] not in until:
                got.append(self.wire.receive())
        except TimeoutError:
            raise Hung from None
        except (Closed, OSError) as error:
            end = end or str(error)
        reply = Reply(got)
        for error in reply.errors:
            self.note(error["C"], error["M"])
        if end or any(error.get("V") in ("FATAL", "PANIC") for error in reply.errors):
            raise Lost("; ".join(error["M"] for error in reply.errors) or end)
        if reply.errors:
            raise Refused(f"{reply.errors[0]['C']} {reply.errors[0]['M']}")
        return reply

    def run(self, sql, parameters=None):
        """A statement, by the simple protocol or the extended one."""
        if parameters is not None and self.draw.random() < 0.5:
            return self.exchange(parse(sql), bind(parameters), describe(), execute(), SYNC)
        if parameters is not None:
            text = iter(parameters)
            sql = re.sub(r"\$\d+", lambda _: literal(next(text)), sql)
        return self.exchange(query(sql))

    def copy(self, sql, lines):
        self.exchange(query(sql), until=b"GZ")
        return self.exchange(copy_data("".join(lines).encode()), COPY_DONE)

    # --- transactions ---

    def once(self):
        """One transaction, and what became of it."""
        draw = self.draw
        if self.wire is None and not self.connect():
            time.sleep(0.02)
            return
        self.count += 1
        kinds = {"append": ["append", "append_many", "append_block", "receipts", "copied", "read"],
                 "bank": ["transfer", "transfer_block", "move", "sum", "sum"],
                 "both": ["append", "append_block", "receipts", "copied", "transfer", "transfer_block", "move", "everything", "sum", "read"]}
        txn = Transaction(self.number, self.count, draw.choice(kinds[self.workload]))
        self.committing = False
        txn.began = time.monotonic()
        try:
            getattr(self, txn.kind)(txn)
            txn.outcome = "ok"
        except Refused as error:
            txn.outcome, txn.error = "refused", str(error)
            if self.block(txn):
                self.roll_back()
        except Lost as error:
            txn.outcome, txn.error = "unknown" if self.committing else "refused", f"lost: {error}"
            self.lost += 1
            self.hang_up()
        except Hung:
            txn.outcome, txn.error = "unknown" if self.committing else "refused", "hung"
            self.problems.append(f"client {self.number}: {txn.kind} had no answer for {self.deadline:.0f} s")
            self.hang_up()
        txn.ended = time.monotonic()
        self.history.append(txn)

    def block(self, txn):
        return txn.kind in ("append_block", "copied", "transfer_block", "move", "everything", "sum")

    def roll_back(self):
        try:
            self.exchange(query("rollback"))
        except (Refused, Lost, Hung):
            self.hang_up()

    def commit_alone(self, sql, parameters=None):
        """A statement that is its own transaction."""
        self.committing = True
        return self.run(sql, parameters)

    def commit(self):
        self.committing = True
        reply = self.exchange(query("commit"))
        if reply.tags != ["COMMIT"]:
            raise Refused(f"COMMIT was answered {reply.tags}")

    def append_sql(self, txn, keys):
        txn.keys += keys
        if len(keys) == 1 and self.draw.random() < 0.4:
            return ("insert into list values ($1, array[$2]::text[]) on conflict (key) do update set items = list.items || excluded.items",
                    [keys[0], txn.token])
        return f"update list set items = items || $1::text where key in ({', '.join(map(str, keys))})", [txn.token]

    def pick(self, most=1):
        return sorted(self.draw.sample(range(1, KEYS + 1), self.draw.randint(1, most)))

    def append(self, txn):
        self.commit_alone(*self.append_sql(txn, self.pick()))

    def append_many(self, txn):
        self.commit_alone(*self.append_sql(txn, self.pick(3)))

    def append_block(self, txn):
        self.exchange(query("begin"))
        for key in self.pick(3):
            self.run(*self.append_sql(txn, [key]))
            if self.draw.random() < 0.15:  # what a savepoint took back is as if it had never been
                self.exchange(query("savepoint s"))
                self.run("update list set items = items || $1::text where key = $2", [f"undone {txn.token}", key])
                self.exchange(query("rollback to s"))
        self.commit()

    def receipts(self, txn):
        """Several rows by one statement."""
        txn.receipts = True
        self.commit_alone("insert into receipt (token, key) values "
                          + ", ".join(f"('{txn.token}/{n}', {n})" for n in range(3)))

    def copy_receipts(self, txn):
        txn.receipts = True
        self.copy("copy receipt (token, key, at) from stdin", [f"{txn.token}/{n}\t{n}\t2001-01-01\n" for n in range(3)])

    def copied(self, txn):
        self.exchange(query("begin"))
        self.copy_receipts(txn)
        self.run(*self.append_sql(txn, self.pick()))
        self.commit()

    def transfer_sql(self, most=ACCOUNTS):
        one, two = self.draw.sample(range(1, most + 1), 2)
        return one, two, self.draw.randint(1, 20)

    def transfer(self, _):
        """By one statement, between accounts that never move (READ COMMITTED would find one of two)."""
        one, two, amount = self.transfer_sql(SETTLED)
        self.commit_alone(f"update account set balance = balance + case id when {one} then {amount} else -{amount} end where id in ({one}, {two})")

    def transfer_block(self, _):
        one, two, amount = self.transfer_sql()
        self.exchange(query("begin"))
        self.transfer_body(one, two, amount)
        self.commit()

    def transfer_body(self, one, two, amount):
        """Both or neither: an account may have moved elsewhere."""
        for number in sorted((one, two)):
            change = amount if number == one else -amount
            reply = self.run("update account set balance = balance + $1::int where id = $2", [change, number])
            if reply.tags != ["UPDATE 1"]:
                raise Refused("no such account")

    def move(self, txn):
        """An account gets another number and comes back: a row that goes and a row that comes."""
        number = self.draw.randint(SETTLED + 1, ACCOUNTS)
        other = number + 1000
        if self.draw.random() < 0.5:
            number, other = other, number
        self.exchange(query("begin"))
        if self.draw.random() < 0.5:
            self.run("update account set id = $1 where id = $2", [other, number])
        else:
            reply = self.run("delete from account where id = $1 returning balance", [number])
            if reply.rows:
                self.run("insert into account values ($1, $2)", [other, reply.texts()[0][0]])
        self.commit()

    def everything(self, txn):
        one, two, amount = self.transfer_sql()
        self.exchange(query("begin"))
        for key in self.pick(2):
            self.run(*self.append_sql(txn, [key]))
        if self.draw.random() < 0.4:
            self.copy_receipts(txn)
        else:
            txn.receipts = True
            self.run("insert into receipt (token, key) values ($1, 0), ($2, 1), ($3, 2)", [f"{txn.token}/{n}" for n in range(3)])
        self.transfer_body(one, two, amount)
        self.commit()

    # --- reads ---

    def read(self, txn):
        key = self.draw.randint(1, KEYS)
        reply = self.run("select array_to_string(items, ' ') from list where key = $1", [key])
        txn.keys, txn.seen = [key], reply.texts()[0][0].split() if reply.rows else None
        if reply.rows:
            self.reads.append(txn)

    def sum(self, txn):
        sql = "select sum(balance), count(*) from account"
        if self.draw.random() < 0.5:
            reply = self.run(sql)
        else:
            self.exchange(query("begin isolation level repeatable read"))
            first = self.run("select sum(balance), count(*) from account where id % 2 = 0").texts()[0]
            time.sleep(self.draw.random() * 0.01)
            second = self.run("select sum(balance), count(*) from account where id % 2 = 1").texts()[0]
            self.exchange(query("commit"))
            found = tuple(str(int(a or 0) + int(b or 0)) for a, b in zip(first, second))
            self.check_sum(found, "in one snapshot")
            return
        self.check_sum(reply.texts()[0], "in one statement")

    def check_sum(self, found, how):
        if found != (str(TOTAL), str(ACCOUNTS)):
            self.problems.append(f"client {self.number}: the sum {how} was {found}, not {TOTAL} in {ACCOUNTS} accounts")



def literal(value):
    if isinstance(value, int):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


class Clients:
    """Threads of them, until stopped."""

    def __init__(self, count, seed, dial, workload, deadline, pace=0.004):
        self.clients = [Client(number, seed, dial, workload, deadline) for number in range(count)]
        self.stopping = threading.Event()
        self.pace, self.deadline, self.broken = pace, deadline, []
        self.threads = [threading.Thread(target=self.work, args=(client,), daemon=True) for client in self.clients]

    def work(self, client):
        try:
            while not self.stopping.is_set():
                client.once()
                time.sleep(client.draw.random() * self.pace * 2)
        except Exception as error:  # pylint: disable=broad-except
            self.broken.append(f"client {client.number}: {error!r}")
        finally:
            if client.wire:
                client.wire.close()

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def committed(self):
        return sum(1 for client in self.clients for txn in client.history if txn.outcome == "ok")

    def stop(self):
        """The problems: of the clients, and clients that do not end."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(self.deadline * 3)
        problems = list(self.broken)
        problems += [f"client {number} does not end" for number, thread in enumerate(self.threads) if thread.is_alive()]
        return problems + [problem for client in self.clients for problem in client.problems]

    @property
    def history(self):
        return [txn for client in self.clients for txn in client.history]

    @property
    def reads(self):
        return [txn for client in self.clients for txn in client.reads]


__all__ = ["ACCOUNTS", "Clients", "KEYS", "ROWS", "SCHEMA", "TOTAL", "WORKLOADS", "Wire"]
