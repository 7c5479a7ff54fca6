# DBD::Pg: server-side prepares, bind types, COPY, savepoints, asynchronous queries, notifications, large objects.
use strict;
use warnings;
use utf8;
use DBI;
use DBD::Pg qw(:pg_types :async);
binmode STDOUT, ':encoding(UTF-8)';
$| = 1;

our $stage = 1;

sub out { my ($name, $value) = @_; $value =~ s/\n/\\n/g; print "$stage.$name: $value\n"; }

sub shown { defined $_[0] ? ref $_[0] ? '[' . join(',', map { shown($_) } @{$_[0]}) . ']' : length $_[0] > 500 ? length($_[0]) . ' characters' : $_[0] : 'null' }

sub check {
    my ($name, $work) = @_;
    my $value = eval { $work->() };
    out($name, $@ ? 'ERROR ' . ($DBI::state // '') . ' ' . ($DBI::errstr // $@) : shown($value));
}

sub told {
    my ($statement) = @_;
    my $text = $statement->rows . ' ' . ($statement->{NUM_OF_FIELDS} // 0);
    if ($statement->{NUM_OF_FIELDS}) {
        $text .= ' ' . join(',', @{$statement->{NAME}}) . ' ' . join(',', map { $_ // '' } @{$statement->{PRECISION}}) . ' ';
        my $rows = $statement->fetchall_arrayref;
        $text .= @$rows < 40 ? join(';', map { join('|', map { shown($_) } @$_) } @$rows) : scalar(@$rows) . ' rows';
    }
    return $text;
}

sub run {
    my ($dbh, $sql, @parameters) = @_;
    my $statement = $dbh->prepare($sql);
    $statement->execute(@parameters);
    return told($statement);
}

sub common {
    my ($dbh) = @_;
    my @notices;
    local $SIG{__WARN__} = sub { push @notices, $_[0] };
    open my $file, '<:encoding(UTF-8)', $ENV{COMMON} or die;
    my (undef, @parts) = split /^-- (.*)\n/m, join('', <$file>);
    my $number = 0;
    while (my ($name, $sql) = splice @parts, 0, 2) {
        # In turn: the simple protocol, and prepared on the server.
        check($name, $number++ % 2 ? sub { run($dbh, $sql) } : sub { my $s = $dbh->prepare($sql, { pg_server_prepare => 0 }); $s->execute; told($s) });
        out("$name notices", join(' ', map { s/ at .* line \d+\.?$//sr } @notices)) if @notices;
        @notices = ();
    }
}

sub parameters {
    my ($dbh) = @_;
    $dbh->{pg_switch_prepared} = 1;
    my $insert = $dbh->prepare('insert into item (id, name, price, raw, tags) values (?, ?, ?, ?, ?) returning id, name, price, raw, tags');
    $insert->bind_param(4, undef, { pg_type => PG_BYTEA });
    for my $n (0 .. 3) {
        check("insert $n", sub { $insert->execute(300 + $n, "ünï 🌳 $n", '1.5', "\0\x01raw", ['a', undef, 'b,c']); told($insert) });
    }
    check('named', sub { my $s = $dbh->prepare('select :a::int + :b::int'); $s->bind_param(':a', 1); $s->bind_param(':b', 2); $s->execute; told($s) });
    check('dollar', sub { run($dbh, 'select $1::text || $2', 'a', 'b') });
    check('execute_array', sub { my @status; $dbh->prepare('insert into pair (a, b) values (?, ?)')->execute_array({ ArrayTupleStatus => \@status }, [300 .. 320], 'x') });
    check('duplicate', sub { $insert->execute(300, 'again', 1, '', []); told($insert) });
    check('kinds', sub { run($dbh, 'select id, i2, i8, num, r8, t, vc, ch, u, jb, ia, ta, bo, g, tz from kinds order by id') });
    check('large', sub { my $s = $dbh->prepare('update item set raw = ? where id = 300 returning md5(raw)'); $s->bind_param(1, "\x01\x02" x 700000, { pg_type => PG_BYTEA }); $s->execute; told($s) });
    check('do', sub { $dbh->do('update item set price = price + 1 where id between 300 and 302') });
    check('do several', sub { $dbh->do("update item set price = 0 where id = 301; update item set price = 1 where id = 302") });
    check('state', sub { eval { $dbh->do('insert into item (id) values (300)') }; $dbh->state });
    check('column info', sub { scalar @{ $dbh->column_info(undef, $ENV{PGUSER}, 'item', undef)->fetchall_arrayref } });
    check('primary key', sub { join ',', $dbh->primary_key(undef, $ENV{PGUSER}, 'pair') });
}

sub transactions {
    my ($dbh) = @_;
    $dbh->begin_work;
    check('in a block', sub { run($dbh, "insert into item (id, name) values (200, 'block')") });
    $dbh->pg_savepoint('point');
    check('fails', sub { run($dbh, "insert into item (id, name) values (200, 'block')") });
    check('refused', sub { run($dbh, 'select 1') });
    check('ping', sub { $dbh->pg_ping });
    $dbh->pg_rollback_to('point');
    check('goes on', sub { run($dbh, "insert into item (id, name) values (201, 'after')") });
    $dbh->pg_release('point');
    $dbh->commit;
    $dbh->begin_work;
    run($dbh, 'delete from item');
    $dbh->rollback;
    check('left', sub { run($dbh, 'select id, name from item where id between 200 and 209 order by id') });
    $dbh->begin_work;
    run($dbh, 'declare c cursor for select g from generate_series(1, 20) g');
    check('cursor', sub { run($dbh, 'fetch 5 from c') });
    $dbh->commit;
}

sub copies {
    my ($dbh) = @_;
    $dbh->do('delete from pair');
    check('copy in', sub { $dbh->do('copy pair from stdin'); $dbh->pg_putcopydata("$_\tc$_\t\\N\n") for 1 .. 500; $dbh->pg_putcopyend });
    check('copy twice', sub { $dbh->do('copy pair from stdin'); $dbh->pg_putcopydata("1\tc1\t1\n"); $dbh->pg_putcopyend });
    check('copy wrong', sub { $dbh->do('copy nowhere from stdin') });
    check('copy out', sub {
        $dbh->do('copy (select * from pair where a < 5 order by a) to stdout');
        my ($all, $row) = ('', '');
        $all .= $row while $dbh->pg_getcopydata($row) >= 0;
        $all;
    });
    check('copied', sub { run($dbh, 'select count(*), sum(a) from pair') });
}

sub notified {
    my ($dbh, $count) = @_;
    my @found;
    for (1 .. 200) {
        while (my $note = $dbh->pg_notifies) { push @found, "$note->[0] $note->[2]" }
        last if @found >= $count;
        select undef, undef, undef, 0.1;
    }
    return join ',', @found;
}

sub rest {
    my ($dbh, $other) = @_;
    $dbh->do('listen dbdpg_a');
    $other->do("notify dbdpg_a, 'elsewhere'");
    check('notified', sub { notified($dbh, 1) });
    $dbh->do('unlisten dbdpg_a');
    check('asynchronous', sub { my $s = $dbh->prepare("update item set name = 'async' where id = 300 returning id", { pg_async => PG_ASYNC }); $s->execute; $s->pg_result . ' ' . shown($s->fetchall_arrayref) });
    check('cancelled', sub { my $s = $dbh->prepare('select pg_sleep(30)', { pg_async => PG_ASYNC }); $s->execute; select undef, undef, undef, 0.2; $dbh->pg_cancel });
    check('after it', sub { run($dbh, 'select 1') });
    check('large object', sub {
        $dbh->begin_work;
        my $oid = $dbh->pg_lo_creat($dbh->{pg_INV_WRITE} | $dbh->{pg_INV_READ});
        my $lo = $dbh->pg_lo_open($oid, $dbh->{pg_INV_WRITE} | $dbh->{pg_INV_READ});
        $dbh->pg_lo_write($lo, 'large object', 12);
        $dbh->pg_lo_lseek($lo, 6, 0);
        my $read = '';
        $dbh->pg_lo_read($lo, $read, 6);
        $dbh->pg_lo_close($lo);
        $dbh->pg_lo_unlink($oid);
        $dbh->commit;
        $read;
    });
}

my @options = ("dbi:Pg:", '', '', { AutoCommit => 1, RaiseError => 1, PrintError => 0, pg_enable_utf8 => 1 });
my ($dbh, $other) = (DBI->connect(@options), DBI->connect(@options));
my ($write, $read);
for my $number (1 .. 3) {
    $stage = $number;
    if ($number > 1) {
        print "PAUSE\n";
        my $answer = <STDIN>;
        for my $n (0 .. 2) {
            check("carried write $n", sub { $write->execute(10); told($write) });
            check("carried read $n", sub { $read->execute(10); told($read) });
        }
        $other->do("notify dbdpg_b, 'across'");
        check('carried channel', sub { notified($dbh, 1) });
        check('carried setting', sub { run($dbh, "select current_setting('my.carried')") });
    }
    common($dbh);
    parameters($dbh);
    transactions($dbh);
    copies($dbh);
    rest($dbh, $other);
    $write = $dbh->prepare('update item set good = not good where id = ? returning id', { pg_prepare_now => 1 });
    $read = $dbh->prepare('select id, name from item where id = ?', { pg_prepare_now => 1 });
    $write->execute(10), $write->fetchall_arrayref for 1 .. 3;
    $read->execute(10), $read->fetchall_arrayref for 1 .. 3;
    $dbh->do('listen dbdpg_b');
    $dbh->do("set my.carried = 'kept'");
}
