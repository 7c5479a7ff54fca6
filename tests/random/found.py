"""What the random runs have found, as short scenarios: run --found."""
from directed import FILLED, MIRRORING, PLAIN, SETTLE, say, scenario

WRITER = "create function f() returns void language sql as 'update t set n = n + 1 where id = 5'"
ITSELF = ("create table t (id int primary key, n int default 0, up int references t on delete set null on update {action})")
END = [*SETTLE, {"o": "end"}]


def captured_and_opaque_in_one_transaction():
    """Rows captured before the measurement's baseline were taken off what an opaque statement had changed after it."""
    script = [*MIRRORING, *say(0, "begin", "update t set n = 7 where id < 4", "select f()", "commit"), *END]
    return scenario([PLAIN, WRITER], [FILLED], script)


def listed_but_not_carried():
    """So were rows that a cascade would have reached, had the referenced value changed."""
    schema = ["create table p (id int primary key, code int unique)",
              "create table t (id int primary key, code int references p (code) on update cascade, n int default 0)", WRITER]
    rows = ["insert into p select g, g from generate_series(1, 5) g", "insert into t select g, case when g = 5 then 2 else 1 end from generate_series(1, 9) g"]
    return scenario(schema, rows, [*MIRRORING, {"o": "end"}, *say(0, "begin", "select f()", "update p set code = code where id = 1", "commit"), *END])


def moved_row_that_refers_to_itself():
    """RETURNING shows the moved row before its reference to itself is carried along."""
    script = [*MIRRORING]
    for number in range(3):
        script += say(0, f"update t{number} set id = id + 100 where id in (1, 2)")
    schema = [ITSELF.format(action=action).replace(" t ", f" t{number} ") for number, action in enumerate(("cascade", "set null", "set default"))]
    rows = [f"insert into t{number} select g, 0, case when g < 3 then g end from generate_series(1, 9) g" for number in range(3)]
    return scenario(schema, rows, script + END)


def inserted_through_an_instead_trigger_after_a_captured_insert():
    """The first one again, as it was found: through a view."""
    view = ("create view v as select id, n from t; create function instead() returns trigger language plpgsql as "
            "$$ begin insert into t (id, n) values (new.id, new.n); return new; end $$; "
            "create trigger instead instead of insert on v for each row execute function instead()")
    script = [*MIRRORING, *say(0, "begin", "insert into t (id) values (101), (102)", "insert into v values (103, 1)", "commit"), *END]
    return scenario([PLAIN, view], [FILLED], script)


FOUND = [captured_and_opaque_in_one_transaction, listed_but_not_carried, moved_row_that_refers_to_itself,
         inserted_through_an_instead_trigger_after_a_captured_insert]
