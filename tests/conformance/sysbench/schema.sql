-- As sysbench's prepare makes them; its sequences are its own.
create table sbtest1 (id serial primary key, k int default 0 not null, c char(120) default '' not null, pad char(60) default '' not null);
create table sbtest2 (id serial primary key, k int default 0 not null, c char(120) default '' not null, pad char(60) default '' not null);
create index k_1 on sbtest1 (k);
create index k_2 on sbtest2 (k);
