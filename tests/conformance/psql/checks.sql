-- gset
select id as found, name from item where id = 1 \gset
\echo :found :name
-- variables
select :found + 1, :'name', :"found" from (select 1 as "1") x;
-- gexec
select format('update item set name = %L where id = %s', 'gexec ' || g, g) from generate_series(10, 12) g \gexec
-- gdesc
select id, name, price, now() from item \gdesc
-- gx
select 1 as a, 'two' as b \gx
-- describe a table
\d item
-- describe a function
\df shout
-- list tables
\dt
-- copy in from text
\copy pair from stdin
501	a	1
502	b	\N
\.
-- copy in from a program
\copy pair (a, b) from program 'seq -f "%.0f,x" 600 649' (format csv)
-- copy with an error
\copy pair from program 'echo not a number'
-- copy out
\copy (select a, b, v from pair where a > 500 order by a limit 5) to stdout (format csv, header)
-- copy in plain SQL
copy pair (a, b, v) from stdin;
700	plain	1
701	plain	2
\.
-- copied
select count(*), sum(a) from pair;
-- several statements at once
insert into item (id, name) values (500, 'a')\; update item set name = 'b' where id = 500 returning name\; select 'third';
-- several statements, one wrong
insert into item (id, name) values (501, 'a')\; select 1 / 0\; insert into item (id) values (502);
-- none of them
select count(*) from item where id in (501, 502);
-- transaction
begin;
insert into item (id, name) values (510, 'in a block');
select 1 / 0;
select 'refused';
commit;
select count(*) from item where id = 510;
-- on error rollback
\set ON_ERROR_ROLLBACK on
begin;
insert into item (id, name) values (511, 'in a block');
select 1 / 0;
insert into item (id, name) values (512, 'still there');
commit;
select id, name from item where id in (511, 512) order by id;
\set ON_ERROR_ROLLBACK off
-- savepoints
begin;
insert into item (id, name) values (520, 'kept');
savepoint a;
update item set name = 'lost' where id = 520;
rollback to a;
insert into item (id, name) values (521, 'also kept');
release a;
commit and chain;
insert into item (id, name) values (522, 'chained');
rollback and no chain;
select id, name from item where id between 520 and 529 order by id;
-- autocommit off
\set AUTOCOMMIT off
insert into item (id) values (530);
rollback;
select count(*) from item where id = 530;
commit;
\set AUTOCOMMIT on
-- fetch count
\set FETCH_COUNT 50
select sum(g) over (order by g) from generate_series(1, 120) g;
\unset FETCH_COUNT
-- error fields
\set VERBOSITY verbose
insert into item (id) values (1);
select nope
  from item;
\set VERBOSITY sqlstate
insert into item (id) values (1);
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE :LAST_ERROR_MESSAGE :ROW_COUNT :ERROR
-- single step variables
update item set name = name where id in (1, 2);
\echo :ROW_COUNT :SQLSTATE
-- listen
listen psql_channel;
notify psql_channel, 'heard';
select 1;
unlisten *;
-- cursor
begin;
declare c scroll cursor for select g from generate_series(1, 10) g;
fetch 3 from c;
fetch backward 1 from c;
fetch last from c;
close c;
fetch 1 from c;
rollback;
-- large object
\lo_list
begin;
select lo_from_bytea(0, '\x0102030405') as lo \gset
select lo_get(:lo, 1, 2);
select lo_unlink(:lo);
commit;
-- two-phase commit
begin;
insert into item (id, name) values (540, 'prepared');
prepare transaction 'psql prepared';
commit prepared 'psql prepared';
begin;
insert into item (id, name) values (541, 'prepared');
prepare transaction 'psql prepared';
rollback prepared 'psql prepared';
select id, name from item where id in (540, 541);
-- discard
prepare discarded as select 1;
set my.other = 'x';
create temporary table discarded (id int);
discard all;
execute discarded;
select current_setting('my.other', true);
-- encoding
\encoding latin1
select length('é');
\encoding utf8
-- crosstab
select a / 100, a % 2, count(*) from pair where a between 600 and 649 group by 1, 2 order by 1, 2 \crosstabview
-- session
set role guest;
\echo :USER
select current_user;
set session authorization default;
reset role;
select current_user;
-- connect again
\connect
select current_user = session_user;
-- left
select count(*), sum(id) from item;
