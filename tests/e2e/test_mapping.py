"""Mapped tables through all phases and back: other names, expressions, a row filter, a split.

What each side should hold is computed here, in SQL and Python of the test's own, from what the other
side holds.
"""
import random
import re

import pytest

import kit
from kit import Workers, wait_until

SOURCE = """
create table customer (id bigserial primary key, email text not null, full_name text, created_date timestamptz not null default now(),
                       modified_date timestamptz, active boolean not null default true, legacy int);
create table orders (id int primary key, status text, amount numeric(10,2) not null default 0, note text);
create table profile (id int primary key, name text not null, bio text not null, seen int);
create table tag (a int, b text, v text, primary key (a, b));
"""
TARGET = """
create schema crm; create schema sales;
create table crm.person (person_id bigserial primary key, email text not null, full_name text, touched timestamptz not null,
                         active boolean not null, origin text default 'shop');
create table sales.open_orders (order_id int primary key, status text not null, amount numeric(10,2) not null, note text);
create table crm.profile_core (id int primary key, name text not null, seen int);
create table crm.profile_text (profile int primary key, bio text not null);
create table label (x int, y text, v text, primary key (x, y));
"""
BOTH = "create table aa_plain (id int primary key, v text)"
ROWS = """
insert into customer (email, full_name, modified_date) select 'Name' || g || '@Example.org', 'Name ' || g, case when g % 3 = 0 then now() end
  from generate_series(1, 3000) g;
insert into orders select g, (array['new', 'paid', 'archived', null])[1 + g % 4], g, 'seed' from generate_series(1, 3000) g;
insert into profile select g, 'name ' || g, 'bio ' || g, g from generate_series(1, 2000) g;
insert into tag select g % 50, 'b' || g / 50, 'seed' from generate_series(1, 1000) g;
insert into aa_plain select g, 'seed' from generate_series(1, 100) g;
"""
CUSTOMER = {"source": "public.customer", "target": "crm.person",
            "columns": {"person_id": "id", "email": "lower(email)", "touched": "coalesce(modified_date, created_date)"},
            "reverse": {"email": "email", "modified_date": "touched"}, "ignore": ["legacy"]}
ORDERS = {"source": "public.orders", "target": "sales.open_orders", "columns": {"order_id": "id"}, "where": "status <> 'archived'"}
CORE = {"source": "public.profile", "target": "crm.profile_core"}
TEXT = {"source": "public.profile", "target": "crm.profile_text", "columns": {"profile": "id"}}
TAG = {"source": "public.tag", "target": "public.label", "columns": {"x": "a", "y": "b"}}
ALL = [CUSTOMER, ORDERS, CORE, TEXT, TAG]

# table of the target -> what it should hold, said by the source, and what it does hold
FORWARD = {
    "crm.person": ("select id, lower(email), full_name, case when modified_date is null then created_date else modified_date end, active from customer",
                   "select person_id, email, full_name, touched, active from crm.person"),
    "sales.open_orders": ("select id, status, amount, note from orders where status is not null and status not in ('archived')",
                          "select order_id, status, amount, note from sales.open_orders"),
    "crm.profile_core": ("select id, name, seen from profile", "select id, name, seen from crm.profile_core"),
    "crm.profile_text": ("select id, bio from profile", "select profile, bio from crm.profile_text"),
    "label": ("select a, b, v from tag", "select x, y, v from label"),
    "aa_plain": ("select id, v from aa_plain",) * 2,
}
# and for SWITCHOVER the other way round: of the source, said by the target
BACKWARD = {
    "customer": ("select person_id, email, full_name, touched, active from crm.person", "select id, email, full_name, modified_date, active from customer"),
    "orders": ("select order_id, status, amount, note from sales.open_orders", "select id, status, amount, note from orders where status <> 'archived'"),
    "profile": ("select id, name, bio, seen from crm.profile_core join crm.profile_text on id = profile", "select id, name, bio, seen from profile"),
    "tag": ("select x, y, v from label", "select a, b, v from tag"),
}


def start(migration, mapping, source=SOURCE, target=TARGET, rows=ROWS, **sections):
    banyan = migration(BOTH, start=False, mapping=mapping, **sections)
    banyan.source.sql(source + rows, banyan.database, "app")
    banyan.target.sql(target, banyan.database, "app")
    return banyan.start()


def differences(banyan, expectations, said_by):
    """{table: rows that only one side has} by plain SQL."""
    other = banyan.target if said_by is banyan.source else banyan.source
    found = {}
    for table, (should, does) in expectations.items():
        expected = set(said_by.sql(should, banyan.database))
        actual = set(other.sql(does, banyan.database))
        if expected != actual:
            found[table] = sorted(map(str, expected ^ actual))[:6]
    return found


def settle_and_compare(banyan, expectations=None, said_by=None):
    banyan.admin.wait_clean(90 * kit.SLOW)
    verification = banyan.admin.verify(seconds=120 * kit.SLOW)
    assert verification["state"] == "equal", verification
    assert differences(banyan, expectations or FORWARD, said_by or banyan.source) == {}


def old_schema(number, pick):
    """A write as the application knows the tables before SWITCHOVER."""
    low, text = pick.randint(1, 60), f"w{number} {pick.random()}"
    any_id = lambda: pick.choice((low, pick.randint(1, 3300)))  # noqa: E731
    status = pick.choice(("'new'", "'paid'", "'archived'", "null"))
    return pick.choice([
        f"insert into customer (email, full_name) values ('{text}@X.org', '{text}')",
        f"insert into customer (id, email) values ({any_id()}, 'A{number}') on conflict (id) do update set email = excluded.email || customer.id",
        f"update customer set email = 'New{number}@' || id, modified_date = clock_timestamp() where id = {any_id()}",
        f"update customer set full_name = '{text}' where id between {any_id()} and {any_id()} and id % 7 = 0 returning id, email",
        f"update customer set id = {any_id()} where id = {any_id()}",
        f"delete from customer where id = {any_id()}",
        f"insert into orders values ({any_id()}, {status}, {low}, '{text}') on conflict do nothing",
        f"insert into orders values ({any_id()}, {status}, {low}, '{text}') on conflict (id) do update set status = excluded.status",
        f"update orders set status = {status}, amount = amount + 1 where id = {any_id()}",
        f"update orders set status = {status} where id between {low} and {low + 5}",
        f"update orders set id = {any_id()}, status = {status} where id = {any_id()}",
        f"delete from orders where id = {any_id()} returning *",
        f"insert into profile values ({any_id()}, '{text}', 'bio {text}', 1) on conflict (id) do update set bio = excluded.bio",
        f"update profile set name = '{text}', seen = null where id = {any_id()}",
        f"update profile set id = {any_id()} where id = {any_id()}",
        f"delete from profile where id = {any_id()}",
        f"update tag set a = {low}, v = '{text}' where a = {pick.randint(0, 49)} and b = 'b{pick.randint(0, 20)}' returning *",
        f"insert into tag values ({low}, 'b{pick.randint(0, 20)}', '{text}') on conflict (a, b) do update set v = excluded.v",
        f"delete from tag where a = {low} and b = 'b{pick.randint(0, 20)}'",
        f"insert into aa_plain values ({any_id()}, '{text}') on conflict (id) do update set v = excluded.v",
    ])


def new_schema(number, pick):
    """And after it."""
    low, text = pick.randint(1, 60), f"n{number} {pick.random()}"
    any_id = lambda: pick.choice((low, pick.randint(1, 3300)))  # noqa: E731
    status = pick.choice(("new", "paid"))
    profile = any_id()
    return pick.choice([
        f"insert into crm.person (email, full_name, touched, active) values ('{text}@x.org', '{text}', clock_timestamp(), true)",
        f"update crm.person set email = 'New{number}@' || person_id, touched = clock_timestamp() where person_id = {any_id()} returning *",
        f"update crm.person set active = not active where person_id between {low} and {low + 3}",
        f"delete from crm.person where person_id = {any_id()}",
        f"insert into sales.open_orders values ({pick.randint(4000, 4060)}, '{status}', 3, '{text}') on conflict (order_id) do update set note = excluded.note",
        f"update sales.open_orders set status = '{status}', amount = amount + 1 where order_id = {any_id()}",
        f"delete from sales.open_orders where order_id = {any_id()}",
        # Both rows or none, whoever else is at it: the source cannot hold half a profile.
        f"insert into crm.profile_core values ({profile}, '{text}', 2) on conflict (id) do update set seen = 5; "
        f"insert into crm.profile_text values ({profile}, '{text}') on conflict (profile) do update set bio = excluded.bio",
        f"update crm.profile_core set name = '{text}' where id = {profile}",
        f"update crm.profile_text set bio = '{text}' where profile = {profile}",
        f"delete from crm.profile_core where id = {profile}; delete from crm.profile_text where profile = {profile} "
        f"and not exists (select from crm.profile_core where id = {profile})",
        f"update label set x = {low} where x = {pick.randint(0, 49)} and y = 'b{pick.randint(0, 20)}'",
        f"insert into label values ({low}, 'b{pick.randint(0, 20)}', '{text}') on conflict (x, y) do update set v = excluded.v",
        f"delete from label where x = {low} and y = 'b{pick.randint(0, 20)}'",
        f"insert into aa_plain values ({any_id()}, '{text}') on conflict (id) do update set v = excluded.v",
    ])


def writers(banyan, some_write, count=4):
    """Workers that write until stopped: single statements and blocks, in both protocols."""
    def work(number, stop):
        pick = random.Random(f"{some_write.__name__} {number}")
        with banyan.wire() as client:
            while not stop.is_set():
                statements = [some_write(number, pick) for _ in range(pick.randint(1, 3))]
                block = pick.random() < 0.5
                if block:
                    client.query("begin").ok()
                for sql in statements:
                    reply = client.extended(sql) if number % 2 and ";" not in sql else client.query(sql)
                    if not reply.errors:
                        continue
                    assert reply.errors[0]["C"] in ("23505", "40P01"), (sql, reply.errors)
                    if block:
                        break
                if block:
                    client.query(pick.choice(("commit", "commit", "rollback"))).ok()

    return Workers(count, work)


def gate(banyan, to, name):
    return next(gate for gate in banyan.admin.gates(to) if gate["name"] == name)


def test_through_all_phases_and_back_with_writers(migration):
    banyan = start(migration, ALL)
    with writers(banyan, old_schema):
        banyan.lead_to("DUAL_WRITE")
        banyan.admin.wait_backfill(120 * kit.SLOW)
    settle_and_compare(banyan)
    with writers(banyan, old_schema):
        banyan.lead_to("DUAL_READ", verify=False)
        kit.time.sleep(2)
    settle_and_compare(banyan)

    # Not reversible yet: mixed-case addresses, and rows that were never modified.
    reverse = gate(banyan, "SWITCHOVER", "reverse_mappings")
    stubborn = banyan.source.sql("select count(*) from customer where email <> lower(email) or modified_date is null", banyan.database)[0][0]
    assert stubborn > 0 and (reverse["verdict"], reverse["value"]) == ("fail", stubborn), reverse
    assert re.search(r"public\.customer->crm\.person would change \d+ rows .* key \(\d+\)", reverse["explanation"]), reverse
    with pytest.raises(kit.AdminError, match="reverse_mappings"):
        banyan.admin.transition("SWITCHOVER")
    banyan.sql("update customer set email = lower(email), modified_date = coalesce(modified_date, created_date)")
    assert gate(banyan, "SWITCHOVER", "reverse_mappings")["verdict"] == "pass"

    archived = set(banyan.source.sql("select * from orders where status = 'archived' or status is null", banyan.database))
    assert archived
    banyan.lead_to("SWITCHOVER")
    with writers(banyan, new_schema):
        kit.time.sleep(3)
    settle_and_compare(banyan, BACKWARD, banyan.target)
    assert set(banyan.source.sql("select * from orders where status = 'archived' or status is null", banyan.database)) == archived

    # The application writes addresses that the way forward would not: the source's word counts again.
    wait_until(lambda: all(g["verdict"] == "pass" for g in banyan.admin.gates("DUAL_READ")), lambda: banyan.admin.gates("DUAL_READ"), 30 * kit.SLOW)
    banyan.admin.transition("DUAL_READ", "back")
    with writers(banyan, old_schema):
        kit.time.sleep(1)
    banyan.admin.verify(repair=True)
    settle_and_compare(banyan)
    banyan.sql("update customer set email = lower(email), modified_date = coalesce(modified_date, created_date)")
    banyan.lead_to("COMPLETE")
    banyan.sql("insert into crm.person (email, touched, active) values ('last@x', now(), true)")
