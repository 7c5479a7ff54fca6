insert into sbtest1 (k, c, pad) select g, 'c' || g, 'pad' || g from generate_series(1, 2000) g;
insert into sbtest2 (k, c, pad) select g, 'c' || g, 'pad' || g from generate_series(1, 2000) g;
