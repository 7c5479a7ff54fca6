"""Random statements over a schema, as operations: values that JSON can hold and that need no generator to be replayed.

A client's operation is {"c": client, "do": what, ...}; the operator's is {"o": what, ...} (scenario.py).
"""
from schema import HOT, VALUES, quoted


def copy_text(value):
    if value is None:
        return "\\N"
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def csv_text(value):
    return "" if value is None else '"' + value.replace('"', '""') + '"'


class Workload:
    def __init__(self, random, schema, features):
        self.random, self.schema, self.features = random, schema, features
        self.receipts = {}
        self.mirroring = False  # DDL before that would leave the target without it
        self.added = self.prepared = 0

    # --- small draws ---

    def hot(self):
        return self.random.randint(1, HOT)

    def anywhere(self):
        return self.random.choice([self.hot(), self.hot(), 1000 + self.random.randint(0, 600), 5000 + self.random.randint(0, 9)])

    def table(self):
        return self.random.choice(self.schema.tables)

    def value(self, column, bare=False):
        """SQL of a value for this column; `bare`: the text itself, or None."""
        r = self.random
        if column.parent is not None:
            text = None if r.random() < 0.2 else column.parent.key_values(self.anywhere())[0][1]
        elif column.unique:
            text = str(self.hot()) if r.random() < 0.7 else None
        elif column.name == "n":
            text = str(r.choice([0, 3, 13, 77, self.hot(), 40 + self.hot()]))
        else:
            text = None if r.random() < 0.1 and "not null" not in column.clause else VALUES[column.type](r)
        return text if bare else quoted(text)

    def some_payload(self, table, least=1):
        payload = table.payload()
        least = min(least, len(payload))
        return self.random.sample(payload, self.random.randint(least, len(payload))) if payload else []

    # --- statements; each returns SQL or None ---

    def row(self, table, number):
        """(names, values, overriding) of one row to insert; a defaulted key is sometimes left to its default."""
        payload = self.some_payload(table, 0)
        key = table.key_values(number)
        overriding = ""
        if table.key_kind in ("serial", "bydefault", "uuid", "text") and self.random.random() < 0.4:
            key = []
        if table.key_kind == "always":
            if self.random.random() < 0.6:
                key = []
            else:
                overriding = "overriding system value "
        if table.keyless:
            payload = [column for column in payload if column.name != "n"]
        names = [name for name, _ in key] + [column.name for column in payload]
        values = [quoted(value) for _, value in key] + [self.value(column) for column in payload]
        if not names:
            names, values = ["n"], [str(number)]
        return names, values, overriding

    def insert(self, table):
        number = self.anywhere()
        names, values, overriding = self.row(table, number)
        rows = [values]
        for _ in range(self.random.choice([0, 0, 0, 2])):
            other = dict(zip(names, values))
            other.update({name: quoted(value) for name, value in table.key_values(self.anywhere()) if name in other})
            rows.append([other[name] for name in names])
        sql = (f"insert into {self.target(table)} ({', '.join(names)}) {overriding}values "
               + ", ".join("(" + ", ".join(row) + ")" for row in rows))
        return sql + self.on_conflict(table) + self.returning()

    def target(self, table):
        return table.view if table.view and self.random.random() < 0.3 else table.name

    def on_conflict(self, table):
        draw = self.random.random()
        if draw < 0.35:
            return " on conflict do nothing"
        deferred = [column for column in table.columns if "deferrable" in column.clause and column.unique]
        if draw < 0.7 and not table.keyless and not deferred:
            column = self.random.choice(table.payload())
            return f" on conflict ({', '.join(table.key_names())}) do update set {column.name} = excluded.{column.name}"
        return ""

    def returning(self):
        return self.random.choice(["", "", " returning *"])

    def insert_select(self, table):
        keys = table.key_expressions("g")
        low = self.anywhere()
        names = list(keys)
        overriding = "overriding system value " if table.key_kind == "always" else ""
        return (f"insert into {table.name} ({', '.join(names)}) {overriding}select {', '.join(keys.values())} "
                f"from generate_series({low}, {low + self.random.randint(0, 30)}) g on conflict do nothing")

    def assignments(self, table):
        columns = self.some_payload(table)
        return ", ".join(f"{c.name} = " + (f"coalesce({c.name}, 0) + 1" if c.name == "n" and self.random.random() < 0.5 else self.value(c))
                         for c in columns)

    def update(self, table):
        set_ = self.assignments(table) or "n = n"
        where = table.where(self.anywhere()) if self.random.random() < 0.7 else f"n between {self.hot()} and {self.hot() + 3}"
        return f"update {self.target(table)} set {set_} where {where}{self.returning()}"

    def update_from(self, table):
        other = self.table()
        return (f"update {table.name} set n = o.n + 1 from {other.name} o where {table.where(self.hot(), table.name + '.')} "
                f"and {other.where(self.hot(), 'o.')}")

    def change_key(self, table):
        if table.keyless or table.key_kind == "always":
            return None
        name, value = self.random.choice(table.key_values(self.anywhere()))
        return f"update {table.name} set {name} = {quoted(value)} where {table.where(self.anywhere())}"

    def swap(self, table):
        code = next((column for column in table.columns if column.unique), None)
        if code is None or "unique_swaps" not in self.features:
            return None
        one, two = self.hot(), self.hot()
        if "deferrable" in code.clause:
            return (f"update {table.name} set code = case code when {one} then {two} else {one} end where code in ({one}, {two})")
        return f"update {table.name} set code = null where code = {one}; update {table.name} set code = {one} where code = {two}"

    def delete(self, table):
        draw = self.random.random()
        if draw < 0.6:
            return f"delete from {self.target(table)} where {table.where(self.anywhere())}{self.returning()}"
        if draw < 0.8:
            other = self.table()
            return f"delete from {table.name} using {other.name} o where {table.where(self.hot(), table.name + '.')} and o.n = {self.hot()}"
        return f"delete from {table.name} where n = {self.random.choice([13, 77, self.hot()])}"

    def queue(self, table):
        if table.keyless:
            return None
        keys = ", ".join(table.key_names())
        return (f"update {table.name} set n = coalesce(n, 0) + 1 where ({keys}) in "
                f"(select {keys} from {table.name} order by {keys} limit 2 for update skip locked)")

    def merge(self, table):
        if table.keyless or table.key_kind == "always" or table.view:
            return None
        on = " and ".join(f"t.{name} = s.{name}" for name in table.key_names())
        keys = table.key_expressions("g")
        source = ", ".join(f"{sql} as {name}" for name, sql in keys.items())
        names = ", ".join(keys)
        return (f"merge into {table.name} t using (select {source} from generate_series({self.hot()}, {HOT + 3}) g) s on {on} "
                f"when matched and t.n = 0 then delete when matched then update set n = {self.hot()} "
                f"when not matched then insert ({names}) values ({', '.join('s.' + name for name in keys)})")

    def writing_with(self, table):
        other = self.table()
        return (f"with gone as (delete from {table.name} where {table.where(self.anywhere())} returning n), "
                f"changed as (update {other.name} set n = 5 where {other.where(self.hot())} returning n) "
                "select count(*) from gone full join changed on true")

    def truncate(self, table):
        return f"truncate {table.name}{self.random.choice(['', ' cascade', ' restart identity cascade'])}"

    def do_block(self, table):
        return (f"do $$ begin update {table.name} set n = 8 where {table.where(self.hot())}; "
                f"delete from {table.name} where {table.where(self.anywhere())}; end $$")

    def function(self, _table):
        calls = self.schema.functions
        return self.random.choice(calls).format(n=self.hot()) if calls else None

    def large_object(self, _table):
        return "select lo_from_bytea(0, '\\x0102')"

    def sequence(self, table):
        if table.key_kind not in ("serial", "bydefault", "always"):
            return None
        name = f"{table.name}_id_seq"
        return self.random.choice([f"select nextval('{name}')", f"select setval('{name}', (select last_value + 5 from {name}))"])

    def temporary(self, table):
        return (f"begin; create temporary table scratch on commit drop as select * from {table.name} limit 3; "
                f"update scratch set n = 1; insert into {table.name} (n) select 1 from scratch where false; commit")

    def ddl(self, table):
        if not self.mirroring:
            return None
        self.added += 1
        return self.random.choice([
            f"alter table {table.name} add column added{self.added} int default {self.hot()}",
            f"create index on {table.name} (n)",
            f"create table made{self.added} (id int primary key, v text)",
            f"comment on table {table.name} is 'c'",
        ])

    def read(self, table):
        return self.random.choice([f"select * from {table.name} where {table.where(self.anywhere())}",
                                   f"select count(*), sum(n) from {table.name}"])

    # --- operations ---

    def choices(self):
        """[(weight, maker)] of the features that are on."""
        always = [(5, self.insert), (1, self.insert_select), (7, self.update), (1, self.update_from), (2, self.change_key),
                  (4, self.delete), (2, self.read)]
        optional = {"unique_swaps": (2, self.swap), "queues": (1, self.queue), "merge": (1, self.merge), "with": (1, self.writing_with),
                    "truncate": (0.15, self.truncate), "do": (0.5, self.do_block), "functions": (1.5, self.function),
                    "large_objects": (0.3, self.large_object), "sequences": (0.7, self.sequence), "temporary": (0.3, self.temporary),
                    "ddl": (0.2, self.ddl)}
        return always + [choice for feature, choice in optional.items() if feature in self.features]

    def statement(self):
        choices = self.choices()
        while True:
            maker = self.random.choices([maker for _, maker in choices], [weight for weight, _ in choices])[0]
            sql = maker(self.table())
            if sql:
                return sql

    def run(self, client, sql):
        """One statement as an operation, in one of the protocols."""
        draw = self.random.random()
        if "extended" not in self.features or ";" in sql or sql.startswith("do ") or draw < 0.5:
            return {"c": client, "do": "simple", "sql": sql}
        if draw < 0.9:
            return {"c": client, "do": "extended", "sql": sql, "binary": self.random.random() < 0.3}
        return {"c": client, "do": "pipeline", "sqls": [sql, self.single()]}

    def single(self):
        while ";" in (sql := self.statement()) or sql.startswith("do "):
            pass
        return sql

    def parameters(self, client):
        """An UPDATE with parameters, through a named statement."""
        table = self.table()
        column = self.random.choice(table.payload() or [None])
        if column is None or column.parent is not None:
            return []
        key = table.key_values(self.hot())
        self.prepared += 1
        name = f"p{self.prepared}"
        where = " and ".join(f"{k} = ${i + 2}" for i, (k, _) in enumerate(key))
        return [{"c": client, "do": "prepare", "name": name, "sql": f"update {table.name} set {column.name} = $1 where {where}"},
                {"c": client, "do": "execute", "name": name, "parameters": [self.value(column, bare=True), *[v for _, v in key]]}]

    def copy(self, client):
        table = self.table()
        payload = [column for column in self.some_payload(table, 0) if column.parent is None]
        defaulted = table.key_kind in ("serial", "always", "bydefault", "uuid") and self.random.random() < 0.5
        rows = []
        for _ in range(self.random.randint(0, 4)):
            key = [] if defaulted else [value for _, value in table.key_values(6000 + self.random.randint(0, 400))]
            rows.append(key + [self.value(column, bare=True) for column in payload if column.name != "n"])
        names = ([] if defaulted else table.key_names()) + [column.name for column in payload if column.name != "n"]
        if not names:
            return []
        form = self.random.choice(["text", "csv", "binary"])
        if form == "binary":
            # Made by COPY itself from a table of the same shape, when it runs.
            return [{"c": client, "do": "copy_binary", "table": table.name, "columns": names,
                     "rows": [", ".join(quoted(value) for value in row) for row in rows]}]
        separator, text = ("\t", copy_text) if form == "text" else (",", csv_text)
        data = "".join(separator.join(map(text, row)) + "\n" for row in rows)
        return [{"c": client, "do": "copy", "sql": f"copy {table.name} ({', '.join(names)}) from stdin (format {form})", "data": data}]

    def receipt(self, client):
        number = self.receipts[client] = self.receipts.get(client, 0) + 1
        return {"c": client, "do": "receipt", "number": number}

    def transaction(self, client):
        r = self.random
        if r.random() < 0.3:
            return [self.run(client, self.statement())]
        if r.random() < 0.12 and "copy" in self.features:
            return self.copy(client)
        if r.random() < 0.1 and "extended" in self.features:
            return self.parameters(client)
        if r.random() < 0.05 and "call" in self.features and self.schema.procedures:
            return [{"c": client, "do": "simple", "sql": r.choice(self.schema.procedures).format(n=self.hot())}]
        level = r.choice(["", "", "", " isolation level repeatable read", " isolation level serializable"]) if "isolation" in self.features else ""
        operations = [{"c": client, "do": "simple", "sql": "begin" + level}]
        savepoints = 0
        for _ in range(r.randint(1, 4)):
            draw = r.random()
            if draw < 0.2 and "savepoints" in self.features:
                savepoints += 1
                operations.append({"c": client, "do": "simple", "sql": f"savepoint s{savepoints}"})
            elif draw < 0.4 and savepoints:
                operations.append({"c": client, "do": "simple", "sql": r.choice(["rollback to", "rollback to", "release"]) + f" s{savepoints}"})
                savepoints -= 1
            elif draw < 0.47 and "copy" in self.features:
                operations += self.copy(client)
            else:
                operations.append(self.run(client, self.statement()))
        operations.append(self.receipt(client))
        operations.append({"c": client, "do": "simple", "sql": r.choice(["commit"] * 8 + ["rollback", "commit and chain"])})
        if operations[-1]["sql"] == "commit and chain":
            operations.append({"c": client, "do": "simple", "sql": "rollback"})
        return operations
