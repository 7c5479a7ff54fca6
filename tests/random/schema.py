"""Random schemas, as values: tables with columns of many types, keys of every kind, and what hangs on them.

Everything is drawn from one random.Random; nothing here looks at a clock or a database. A table is
rendered from a list of items, so that a failing scenario can be reduced column by column.
"""
import dataclasses
import random
import typing

HOT = 12  # the rows that the clients fight for; more rows stand behind them, for the backfill

TYPES = """
create type mood as enum ('sad', 'ok', 'happy');
create domain small as int check (value between -1000 and 1000);
create type pair as (a int, b text);
create type span as range (subtype = float8);
"""


def quoted(text):
    return "null" if text is None else "'" + text.replace("'", "''") + "'"


WORDS = ["", "a", "it''s".replace("''", "'"), "back\\slash", "tab\tand", "äöü €", "NULL", "\\N", "x" * 300, '"q"', "{}", "(1,2)", "0"]

# type -> a function of random.Random that gives the value as PostgreSQL's text
VALUES = {
    "text": lambda r: r.choice(WORDS),
    "varchar(20)": lambda r: r.choice(WORDS)[:20],
    "char(4)": lambda r: r.choice(["", "a", "abcd"]),
    "numeric": lambda r: r.choice(["0", "1.0", "1.00", "-3.14159", "123456789012345678901234567890.5", "NaN"]),
    "numeric(10,2)": lambda r: f"{r.randint(-999, 999)}.{r.randint(0, 99):02}",
    "bigint": lambda r: str(r.choice([0, -1, 2**62, r.randint(0, 99)])),
    "smallint": lambda r: str(r.randint(-9, 9)),
    "boolean": lambda r: r.choice("tf"),
    "json": lambda r: r.choice(['{"a" : 1}', '{"a":1,"a":2}', "[1, 2]", "null", '"x"']),
    "jsonb": lambda r: r.choice(['{"a": 1}', "[1, null]", "null", '"x"']),
    "int[]": lambda r: r.choice(["{}", "{1,2,NULL}", "{{1,2},{3,4}}", "[2:3]={7,8}"]),
    "text[]": lambda r: r.choice(["{}", '{a,"b c",NULL,"NULL"}', '{"q\\"q"}']),
    "mood": lambda r: r.choice(["sad", "ok", "happy"]),
    "mood[]": lambda r: r.choice(["{}", "{sad,ok}"]),
    "small": lambda r: str(r.randint(-9, 9)),
    "pair": lambda r: r.choice(['(1,x)', '(,)', '(2,"a,b")']),
    "span": lambda r: r.choice(["empty", "[1,2)", "(,3]"]),
    "int4range": lambda r: r.choice(["empty", "[1,5)", "[2,)"]),
    "int4multirange": lambda r: r.choice(["{}", "{[1,3),[5,8)}"]),
    "bytea": lambda r: r.choice(["\\x", "\\x00ff", "\\x" + "ab" * 40]),
    "timestamptz": lambda r: r.choice(["2024-01-01 00:00:00+00", "infinity", "1999-12-31 23:59:59.999999+00", "4713-01-01 00:00:00+00 BC"]),
    "date": lambda r: r.choice(["2024-02-29", "-infinity"]),
    "interval": lambda r: r.choice(["1 day 02:00:00", "-1 mons", "00:00:00.000001"]),
    "float8": lambda r: r.choice(["NaN", "Infinity", "-0", "1e-300", "0.1", "3"]),
    "real": lambda r: r.choice(["0.1", "-0", "1e-30"]),
    "inet": lambda r: r.choice(["10.0.0.1/8", "::1", "192.168.0.1"]),
    "macaddr": lambda r: "08:00:2b:01:02:03",
    "uuid": lambda r: f"00000000-0000-4000-8000-{r.randint(0, 999):012}",
    "bit(8)": lambda r: r.choice(["10101010", "00000000"]),
    "varbit": lambda r: r.choice(["", "101"]),
    "tsvector": lambda r: r.choice(["", "'a':1 'b':2A"]),
    "point": lambda r: "(1,2.5)",
    "xml": lambda r: "<a>1</a>",
    "money": lambda r: "1.50",
    "oid": lambda r: str(r.randint(0, 99)),
    "name": lambda r: r.choice(["n", "x" * 63]),
}
DEFAULTS = {"timestamptz": ["now()", "clock_timestamp()"], "float8": ["random()"], "uuid": ["gen_random_uuid()"],
            "bigint": ["(random() * 1000)::bigint"], "text": ["'d'", "md5(random()::text)"], "jsonb": ["jsonb_build_object('at', now())"]}


@dataclasses.dataclass
class Column:
    name: str
    type: str
    clause: str = ""  # what follows the type
    writable: bool = True  # may be named in INSERT and UPDATE
    parent: typing.Optional["Table"] = None  # a foreign key to its key
    unique: bool = False

    def item(self):
        return f"{self.name} {self.type} {self.clause}".strip()


@dataclasses.dataclass
class Table:
    name: str
    key_kind: str
    columns: list
    constraints: list = dataclasses.field(default_factory=list)
    tail: str = ""  # after the parenthesis
    after: list = dataclasses.field(default_factory=list)  # DDL that needs the table
    view: str = ""
    unlogged: bool = False

    @property
    def keyless(self):
        return self.key_kind.startswith("none")

    def create(self):
        """{"table", "items", "tail"}: what the reducer takes apart."""
        return {"table": self.name, "items": [column.item() for column in self.columns] + self.constraints, "tail": self.tail,
                "unlogged": self.unlogged}

    def key_values(self, number):
        """[(column, its value's text)] that name row `number`."""
        kind = self.key_kind
        if kind in ("serial", "always", "bydefault", "int", "unique", "hash", "range"):
            return [("id", str(number))]
        if kind == "uuid":
            return [("id", f"00000000-0000-4000-8000-{number:012}")]
        if kind == "text":
            return [("id", f"k{number}")]
        if kind == "numeric":
            return [("id", ["{}", "{}.0", "{}.00"][number % 3].format(number))]
        if kind in ("composite", "unique2"):
            return [("a", str(number % 5)), ("b", f"b{number}")]
        if kind == "list":
            return [("id", str(number)), ("region", "abc"[number % 3])]
        return [("n", str(number))]

    def where(self, number, alias=""):
        return " and ".join(f"{alias}{name} = {quoted(value)}" for name, value in self.key_values(number))

    def key_expressions(self, number):
        """{column: SQL} of the key of filler row g."""
        kind = self.key_kind
        if kind == "uuid":
            return {"id": f"('00000000-0000-4000-8000-' || lpad(({number})::text, 12, '0'))::uuid"}
        if kind == "text":
            return {"id": f"'k' || ({number})"}
        if kind in ("composite", "unique2"):
            return {"a": f"({number}) % 5", "b": f"'b' || ({number})"}
        if kind == "list":
            return {"id": number, "region": f"substr('abc', 1 + ({number}) % 3, 1)"}
        if kind.startswith("none"):
            return {"n": number}
        return {"id": number}

    def key_names(self):
        return [name for name, _ in self.key_values(0)]

    def payload(self):
        return [column for column in self.columns if column.writable and column.name not in self.key_names()]


def columns_of_key(kind):
    return {
        "serial": [Column("id", "bigserial", "primary key")],
        "int": [Column("id", "int", "primary key")],
        "always": [Column("id", "bigint", "generated always as identity primary key")],
        "bydefault": [Column("id", "int", "generated by default as identity primary key")],
        "uuid": [Column("id", "uuid", "primary key default gen_random_uuid()")],
        "text": [Column("id", "text", "primary key default 'k' || (random() * 1000)::int")],
        "numeric": [Column("id", "numeric", "primary key")],
        "composite": [Column("a", "int", "not null"), Column("b", "text", "not null")],
        "unique": [Column("id", "int", "not null unique")],
        "unique2": [Column("a", "int", "not null"), Column("b", "text", "not null")],
        "list": [Column("id", "int", "not null"), Column("region", "text", "not null default 'a'")],
        "range": [Column("id", "int", "primary key")],
        "hash": [Column("id", "int", "primary key")],
        "none": [], "none_full": [], "none_nothing": [],
    }[kind]


ACTIONS = ["cascade", "set null", "set default", "restrict", "no action"]


class SchemaMaker:
    """Draws one schema: `tables`, and `statements`, DDL for both sides in order."""

    def __init__(self, seed, features):
        self.random = random.Random(f"schema/{seed}")
        self.features = features
        self.tables = []
        self.statements = [TYPES]
        self.functions = []  # SQL calls that write, as templates with {n}
        self.procedures = []

    def chance(self, share, feature=None):
        drawn = self.random.random() < share  # always drawn: features change as little as possible
        return drawn and (feature is None or feature in self.features)

    def make(self):
        for number in range(self.random.randint(1, 4)):
            self.tables.append(self.table(f"t{number}"))
        for table in self.tables:
            self.statements.append(table.create())
            self.statements += table.after
        self.extras()
        self.statements.append("create table receipts (client int, number int, at timestamptz default clock_timestamp(), primary key (client, number))")
        self.statements.append("create table zz_brake (id int primary key, filler text)")
        return self

    def key_kind(self):
        kinds = ["serial", "int", "always", "bydefault", "uuid", "text", "numeric", "composite", "unique", "unique2"]
        if "partitions" in self.features:
            kinds += ["list", "range", "hash"]
        if "keyless" in self.features and self.random.random() < 0.2:
            kinds = ["none", "none_full", "none_nothing"]
        return self.random.choice(kinds)

    def table(self, name):
        kind = self.key_kind()
        table = Table(name, kind, columns_of_key(kind))
        if kind in ("composite", "list"):
            table.constraints.append("primary key (%s)" % ", ".join(table.key_names()))
        if kind == "unique2":
            table.constraints.append("unique (a, b)")
        table.columns.append(Column("n", "int", "default 0"))
        for number in range(self.random.randint(1, 5)):
            table.columns.append(self.payload_column(f"c{number}"))
        if self.chance(0.3, "generated"):
            table.columns.append(Column("g", "int", "generated always as (n * 2 + 1) stored", writable=False))
        if self.chance(0.4, "unique") and kind not in ("list", "range", "hash"):
            clause = "unique" + (self.random.choice(["", " deferrable initially immediate", " deferrable initially deferred"])
                                 if "deferred" in self.features else "")
            table.columns.append(Column("code", "int", clause, unique=True))
        self.foreign_keys(table)
        self.partitions(table)
        # A permanent table may not refer to an unlogged one.
        referenced = any(column.parent is not None and column.parent is not table for column in table.columns)
        table.unlogged = self.chance(0.15, "unlogged") and not referenced and not table.tail
        if kind == "none_full":
            table.after.append(f"alter table {name} replica identity full")
        if kind == "none_nothing":
            table.after.append(f"alter table {name} replica identity nothing")
        return table

    def payload_column(self, name):
        kind = self.random.choice(list(VALUES))
        clause = ""
        if kind in DEFAULTS and self.random.random() < 0.5:
            clause = "default " + self.random.choice(DEFAULTS[kind])
        if not clause and self.random.random() < 0.1:
            clause = f"not null default {quoted(VALUES[kind](self.random))}"
        return Column(name, kind, clause)

    def foreign_keys(self, table):
        types = {"serial": "bigint", "int": "int", "always": "bigint", "bydefault": "int", "uuid": "uuid", "text": "text",
                 "numeric": "numeric", "unique": "int", "range": "int", "hash": "int"}
        parents = [parent for parent in self.tables if parent.key_kind in types and not parent.unlogged]
        if table.key_kind in types:
            parents.append(table)
        if not parents or not self.chance(0.6, "foreign_keys"):
            return
        parent = self.random.choice(parents)
        deferrable = self.random.choice(["", "", " deferrable initially deferred", " deferrable"]) if "deferred" in self.features else ""
        actions = ACTIONS if "cascades" in self.features else ["no action", "restrict"]
        clause = (f"references {parent.name} (id) on delete {self.random.choice(actions)} "
                  f"on update {self.random.choice(actions)}{deferrable}")
        table.columns.append(Column("parent", types[parent.key_kind], clause, parent=parent))

    def partitions(self, table):
        name = table.name
        if table.key_kind == "list":
            table.tail = "partition by list (region)"
            table.after += [f"create table {name}_a partition of {name} for values in ('a')",
                            f"create table {name}_b partition of {name} for values in ('b')",
                            f"create table {name}_rest partition of {name} default"]
        elif table.key_kind == "range":
            table.tail = "partition by range (id)"
            table.after += [f"create table {name}_low partition of {name} for values from (minvalue) to (7)",
                            f"create table {name}_high partition of {name} for values from (7) to (maxvalue)"]
        elif table.key_kind == "hash":
            table.tail = "partition by hash (id)"
            table.after += [f"create table {name}_h{i} partition of {name} for values with (modulus 2, remainder {i})" for i in (0, 1)]

    # --- what hangs on tables ---

    def extras(self):
        add = self.statements.append
        tables = self.tables
        pick = self.random.choice
        if self.chance(0.4, "triggers"):
            table = pick(tables)
            add("create function stamp() returns trigger language plpgsql as $$ begin new.n := coalesce(new.n, 0) + 1; return new; end $$")
            add(f"create trigger stamp before insert or update on {table.name} for each row execute function stamp()")
        if self.chance(0.4, "writing_triggers"):
            table = pick(tables)
            add("create table log (id bigserial primary key, what text, at timestamptz default now())")
            add("create function note() returns trigger language plpgsql as $$ begin insert into log (what) values (tg_op); return null; end $$")
            add(f"create trigger note after insert or update or delete on {table.name} for each row execute function note()")
        if self.chance(0.3, "deferred"):
            table = pick(tables)
            # What it writes, it writes inside COMMIT.
            writes = ""
            if "deferred_writers" in self.features:
                add("create table late (id uuid primary key default gen_random_uuid(), n int)")
                writes = "insert into late (n) values (new.n); "
            add("create function later() returns trigger language plpgsql as $$ begin if new.n = 13 then raise 'thirteen'; end if; "
                f"{writes}return null; end $$")
            add(f"create constraint trigger later after insert or update on {table.name} deferrable initially deferred "
                "for each row execute function later()")
        if self.chance(0.3, "views"):
            table = pick(tables)
            table.view = f"{table.name}_view"
            add(f"create view {table.view} as select * from {table.name} where n is distinct from 77" + pick(["", " with check option"]))
        if self.chance(0.3, "views"):
            table = pick(tables)
            add(f"create view {table.name}_instead as select n from {table.name}")
            add("create function instead() returns trigger language plpgsql as $$ begin "
                f"insert into {table.name} (n) values (new.n); return new; end $$")
            add(f"create trigger instead instead of insert on {table.name}_instead for each row execute function instead()")
            self.functions.append(f"insert into {table.name}_instead values ({{n}})")
        if self.chance(0.2, "rules"):
            table = pick(tables)
            add("create table ruled (id bigserial primary key, n int)")
            # An UPDATE rule forbids ON CONFLICT on its table: Banyan cannot copy it ("update_rules" shows that).
            event = "update" if "update_rules" in self.features else pick(["insert", "delete"])
            add(f"create rule copying as on {event} to {table.name} do also insert into ruled (n) values ({'old' if event == 'delete' else 'new'}.n)")
        if self.chance(0.25, "inheritance"):
            parents = [table for table in tables if not table.tail and table.key_kind in ("int", "serial", "text")]
            if parents:
                parent = pick(parents)
                add(f"create table {parent.name}_child (primary key (id)) inherits ({parent.name})")
        if self.chance(0.2, "row_security"):
            table = pick(tables)
            add(f"alter table {table.name} enable row level security; alter table {table.name} force row level security; "
                f"create policy p on {table.name} using (coalesce(n, 0) % 7 <> 3) with check (true)")
        if self.chance(0.5, "functions"):
            table = pick(tables)
            add(f"create function raise_n(which int) returns int language plpgsql as $$ begin "
                f"update {table.name} set n = coalesce(n, 0) + 1 where n between which and which + 3; return which; end $$")
            self.functions.append("select raise_n({n})")
            if table.key_kind in ("serial", "always", "bydefault", "uuid"):
                add(f"create function put(which int) returns void language sql as $$ insert into {table.name} (n) values (which) $$")
                self.functions.append("select put({n})")
        if self.chance(0.3, "functions"):
            table = pick(tables)
            add(f"create procedure steps(which int) language plpgsql as $$ begin update {table.name} set n = which where n = which + 1; "
                f"commit; update {table.name} set n = which + 2 where n = which; end $$")
            self.procedures.append("call steps({n})")
