-- clean item
delete from item;
-- clean pair
delete from pair;
-- clean uniq
truncate uniq;
-- clean parents
delete from parent;
-- clean kinds
delete from kinds;
-- clean made
delete from made;
-- clean audit
delete from audited;
-- clean audits
delete from audit;
-- empty

-- select nothing
select 1 where false;
-- select no columns
select;
-- select a null
select null::text, ''::text;
-- insert
insert into item (id, name, price) values (1, 'one', 1.5), (2, 'zwölf 🌳', 2), (3, 'three', null);
-- insert returning
insert into item (id, price, doc, tags) values (4, 4.125, '{"a": [1, 2, {"b": null}]}', '{x,"y z",NULL}') returning id, name, price, doc, tags, good;
-- insert select
insert into item (id, name) select g, 'row ' || g from generate_series(10, 19) g;
-- update
update item set price = price * 2, doc = '{"k": "v"}' where id in (1, 2, 99);
-- update returning
update item set name = name || '!' where id = 10 returning id, name;
-- update from
update item set name = v.name from (values (13, 'from'), (99, 'nobody')) v(id, name) where item.id = v.id returning v.id, item.name;
-- change a key
update item set id = id + 100 where id = 15 returning id;
-- delete returning
delete from item where id in (19, 99) returning id;
-- delete using
delete from item using (values (17)) v(id) where item.id = v.id;
-- duplicate key
insert into item (id) values (1);
-- check violated
insert into item (id, price) values (5, -1000);
-- not null violated
insert into item (id, name) values (6, null);
-- foreign key violated
insert into child values (1, 1, 'orphan');
-- out of range
insert into item (id) values (3000000000);
-- bad input
insert into item (id, made) values (7, 'someday');
-- undefined column
select nonsense from item;
-- undefined table
insert into nowhere values (1);
-- syntax error
selec 1;
-- division by zero
select 1 / 0;
-- on conflict do nothing
insert into uniq values (1, 'c1', 1), (1, 'c2', 2) on conflict do nothing;
-- on conflict do update
insert into uniq values (2, 'c1', 5) on conflict (code) do update set n = uniq.n + excluded.n returning id, code, n;
-- on conflict do update where false
insert into uniq values (2, 'c1', 5) on conflict (code) do update set n = 0 where false returning id;
-- composite key
insert into pair values (1, 'x', 7), (1, 'y', 8), (2, 'x', null);
-- change a composite key
update pair set b = b || '2', a = a + 10 where a = 1 and b = 'x' returning a, b, v;
-- parents
insert into parent values (1, 'p1'), (2, 'p2');
-- children
insert into child values (1, 1, 'c1'), (2, 1, 'c2'), (3, 2, 'c3');
-- cascade
delete from parent where id = 1;
-- children left
select id, v from child order by id;
-- identity
insert into made (v) values ('a'), ('b');
-- made so many
select count(*), max(id) - min(id) from made;
-- trigger
insert into audited values (1, 'first');
-- trigger again
update audited set v = 'second' where id = 1 returning v;
-- audit
select id, what from audit;
-- notice
select shout('hear hear');
-- function that writes
select add_item(30, 'by function');
-- procedure
call rename_item(30, 'by procedure');
-- do block
do $$ begin update item set good = false where id = 30; raise notice 'done'; end $$;
-- written by both
select name, good from item where id = 30;
-- with and insert
with x as (insert into item (id, name) values (31, 'with') returning id) select id + 1 from x;
-- merge
merge into item using (values (31, 'merged'), (32, 'new')) v(id, name) on item.id = v.id when matched then update set name = v.name when not matched then insert (id, name) values (v.id, v.name);
-- view
select id, name, price from cheap order by id;
-- write through a view
update cheap set name = 'cheaper' where id = 1;
-- values
values (1, 'a'), (2, null) order by 1;
-- table
table pair order by a, b;
-- kinds
insert into kinds (id, i2, i8, num, r4, r8, t, vc, ch, by, d, ti, ts, tz, iv, u, j, jb, ia, ta, bo, net, bi, ra) values
    (1, -32768, 9223372036854775807, 123456789012345678901234567890.0123456789, 1.5, 0.1, 'a''b\c"d', 'ten chars!', 'ab', '\x00ff10', '2024-02-29',
     '23:59:59.999999', '2024-02-29 12:34:56.789', '2024-02-29 12:34:56.789+02', '1 day 02:03:04', '6f1b6a1e-3a3b-4a57-8c5f-1f1f1f1f1f1f',
     '{"b": 1, "a":  2}', '{"b": 1, "a":  2}', '{1,NULL,3}', '{"a,b","c\"d",NULL}', true, '10.0.0.1/8', B'1010', '[1,5)'),
    (2, 0, -9223372036854775808, 'NaN', '-0', 'Infinity', '', '', '', '', '0001-01-01', '00:00', '1999-12-31 23:59:59.999999',
     '1970-01-01 00:00:00+00', '-1 month', '00000000-0000-0000-0000-000000000000', 'null', '[]', '{}', '{}', false, '::1', B'0000', 'empty'),
    (3, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null);
-- kinds as text
select k::text from kinds k order by id;
-- kinds by themselves
select id, i2, i8, num, r8, t, vc, ch, u, jb, ia, ta, bo, g from kinds order by id;
-- infinities
select 'infinity'::float8, '-infinity'::float8, 'nan'::float8, 1e300::float8, 3.4028235e38::float4;
-- many rows
select sum(g), count(*) from generate_series(1, 20000) g;
-- many rows to the client
select g, g * g, 'text ' || g from generate_series(1, 300) g;
-- a megabyte
select length(repeat('banyan ', 200000)), md5(repeat('banyan ', 200000));
-- a megabyte written
update item set raw = convert_to(repeat('tree', 300000), 'UTF8') where id = 2 returning length(raw), md5(raw);
-- a megabyte read
select id, raw from item where id = 2;
-- created here
create table scratch (id int primary key, v text);
-- created twice
create table scratch (id int primary key);
-- altered
alter table scratch add column w int default 5;
-- indexed
create unique index scratch_v on scratch (v);
-- scratch
insert into scratch (id, v) values (1, 'a'), (2, 'b') returning *;
-- unique index
insert into scratch values (3, 'a');
-- truncated
truncate scratch;
-- scratch again
insert into scratch values (7, 'seven', 7);
-- scratch's rows
select * from scratch;
-- commented
comment on table scratch is 'a comment';
-- dropped
drop table scratch;
-- dropped twice
drop table scratch;
-- dropped if it exists
drop table if exists scratch;
-- temporary
create temporary table tmp (id int primary key, v text);
-- temporary row
insert into tmp values (1, 'temp') returning v;
-- temporary to permanent
insert into item (id, name) select id + 40, v from tmp returning id, name;
-- temporary dropped
drop table tmp;
-- set
set timezone = 'Asia/Tokyo';
-- show
show timezone;
-- in Tokyo
select '2024-01-01 00:00:00+00'::timestamptz::text;
-- reset
reset timezone;
-- set a setting of one's own
set my.own = 'mine';
-- own setting
select current_setting('my.own');
-- set something unknown
set nothing_like_this = 1;
-- set role
set role guest;
-- as guest
select current_user;
-- not as guest
insert into item (id) values (50);
-- reset role
reset role;
-- myself
select current_user = session_user;
-- search path
set search_path = pg_catalog;
-- no item here
select count(*) from item;
-- search path back
set search_path to default;
-- prepare
prepare upd(int, text) as update item set name = $2 where id = $1 returning id, name;
-- execute
execute upd(3, 'executed');
-- execute with an error
execute upd(3);
-- deallocate
deallocate upd;
-- execute nothing
execute upd(3, 'x');
-- advisory lock
select pg_advisory_lock(hashtext(current_user));
-- advisory unlock
select pg_advisory_unlock(hashtext(current_user));
-- explain
explain (costs off) select g from generate_series(1, 2) g order by g;
-- analyze
analyze item;
-- vacuum
vacuum uniq;
-- lock
select id from item where id = 1 for update skip locked;
-- large number of parameters
select count(*) from item where id in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
-- time is the transaction's
select now() = transaction_timestamp();
-- written now
update item set made = now() where id = 4 returning made = now();
-- random written
update item set price = random() where id = 3 returning price between 0 and 1;
-- everything left
select count(*), sum(id), string_agg(name, ',' order by id) from item;
