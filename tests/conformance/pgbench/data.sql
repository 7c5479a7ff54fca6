-- A tenth of pgbench's scale 1; the accounts that are not there are simply not found.
insert into pgbench_branches values (1, 0);
insert into pgbench_tellers select g, 1, 0 from generate_series(1, 10) g;
insert into pgbench_accounts select g, 1, 0 from generate_series(1, 10000) g;
