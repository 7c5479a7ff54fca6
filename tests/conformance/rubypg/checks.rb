# ruby-pg: libpq through Ruby; exec, exec_params with formats, prepare, pipeline mode, single-row mode, COPY, notifications, cancel.
require 'pg'

$stage = 1
$stdout.sync = true

def out(name, value)
  puts "#{$stage}.#{name}: #{value}".gsub("\n", '\n')
end

def error_text(error)
  result = error.respond_to?(:result) ? error.result : nil
  "#{error.class} #{result && result.error_field(PG::PG_DIAG_SQLSTATE)} #{error.message.strip} #{result && result.error_field(PG::PG_DIAG_CONSTRAINT_NAME)}"
end

def check(name)
  out(name, yield)
rescue PG::Error => error
  out(name, error_text(error))
end

def told(result)
  columns = (0...result.nfields).map { |i| [result.fname(i), result.ftype(i) < 10_000 ? result.ftype(i) : 'own', result.fformat(i), result.fmod(i), result.fsize(i)] }
  rows = result.values.map { |row| row.map { |value| value.nil? ? 'null' : value.to_s.bytesize > 500 ? "#{value.bytesize} bytes #{value.hash == value.dup.hash}" : value.inspect } }
  "#{PG::Result.instance_method(:res_status).bind(result).call(result.result_status)} #{result.cmd_status} #{result.cmd_tuples} #{columns} #{rows.size < 40 ? rows : rows.size}"
end

def common(connection)
  notices = []
  connection.set_notice_processor { |message| notices << message.strip }
  parts = File.read(ENV['COMMON'], encoding: 'UTF-8').split(/^-- (.*)\n/)[1..]
  parts.each_slice(2).with_index do |(name, sql), number|
    check(name) { told(number.even? ? connection.exec(sql) : connection.exec_params(sql.strip.chomp(';'), [])) }
    out("#{name} notices", notices) unless notices.empty?
    notices.clear
  end
end

def parameters(connection)
  check('text') { told(connection.exec_params('insert into item (id, name, price) values ($1, $2, $3) returning id, name, price', [300, 'ünï 🌳', '1.5'])) }
  check('binary') { told(connection.exec_params('select $1::int4 + 1, $2::bytea, $3::text', [{ value: [41].pack('N'), format: 1 }, { value: "\x00\xff".b, format: 1 }, nil], 1)) }
  check('typed') { told(connection.exec_params('select $1', [{ value: '5', type: 20 }])) }
  check('kinds in binary') { told(connection.exec_params('select id, i2, i8, num, r4, r8, t, vc, by, d, ts, tz, u, jb, ia, ta, bo from kinds order by id', [], 1)) }
  check('prepare') { told(connection.prepare('p', 'update item set price = $1 where id = $2 returning id, price')) }
  check('describe') { told(connection.describe_prepared('p')) }
  5.times { |n| check("prepared #{n}") { told(connection.exec_prepared('p', [n, 300])) } }
  check('prepare again') { told(connection.prepare('p', 'select 1')) }
  check('deallocate') { told(connection.exec('deallocate p')) }
  check('gone') { told(connection.exec_prepared('p', [1, 2])) }
  check('a megabyte') { told(connection.exec_params('update item set raw = $1 where id = 300 returning md5(raw)', [{ value: "\x00\x01".b * 700_000, format: 1 }])) }
  check('too many') { told(connection.exec_params('select $1::int', [1, 2])) }
  connection.type_map_for_results = PG::BasicTypeMapForResults.new(connection)
  check('mapped') { connection.exec('select id, price, made, good, tags from item where id in (1, 4, 300) and id <> 4 order by id').values.inspect }
  connection.type_map_for_results = PG::TypeMapAllStrings.new
end

def pipelines(connection)
  connection.enter_pipeline_mode
  10.times { |n| connection.send_query_params('insert into item (id, name) values ($1, $2) returning id', [500 + n, "pipe #{n}"]) }
  connection.pipeline_sync
  connection.send_query_params('update item set name = $1 where id = 500', ['before the error'])
  connection.send_query_params('select 1 / $1::int', [0])
  connection.send_query_params('update item set name = $1 where id = 501', ['behind the error'])
  connection.pipeline_sync
  connection.send_query_params('select name from item where id in (500, 501) order by id', [])
  connection.pipeline_sync
  seen, syncs = [], 0
  while syncs < 3
    result = connection.get_result
    next if result.nil?
    syncs += 1 if result.result_status == PG::PGRES_PIPELINE_SYNC
    seen << [result.res_status(result.result_status), result.cmd_status, result.error_field(PG::PG_DIAG_SQLSTATE), result.values]
  end
  connection.exit_pipeline_mode
  out('pipeline', seen.inspect)
end

def single_rows(connection)
  connection.send_query("select g from generate_series(1, 500) g; update item set name = 's' where id = 500 returning id; select 1 / (3 - g) from generate_series(1, 5) g")
  connection.set_single_row_mode
  seen = Hash.new(0)
  while (result = connection.get_result)
    seen[[result.res_status(result.result_status), result.error_field(PG::PG_DIAG_SQLSTATE)]] += result.ntuples
    connection.set_single_row_mode if result.result_status == PG::PGRES_TUPLES_OK
  end
  out('single rows', seen.inspect)
end

def copies(connection)
  connection.exec('delete from pair')
  check('copy in') do
    told(connection.copy_data('copy pair from stdin') { 500.times { |n| connection.put_copy_data("#{n}\tc#{n}\t#{n}\n") } })
  end
  check('copy with an encoder') do
    told(connection.copy_data('copy pair from stdin', PG::TextEncoder::CopyRow.new) { connection.put_copy_data([600, "tab\t", nil]) })
  end
  check('copy twice') { told(connection.copy_data('copy pair from stdin') { connection.put_copy_data("1\tc1\t1\n") }) }
  begin
    connection.copy_data('copy pair from stdin') { raise 'given up' }
  rescue StandardError => error
    out('given up', "#{error.class} #{error.message}")
  end
  check('copy out') do
    rows = []
    connection.copy_data('copy (select * from pair where a < 5 order by a) to stdout') { while (row = connection.get_copy_data) do rows << row end }
    rows.inspect
  end
  check('copied') { told(connection.exec('select count(*), sum(a) from pair')) }
end

def notified(connection, count)
  found = []
  200.times do
    connection.wait_for_notify(0.1) { |channel, _, payload| found << [channel, payload] }
    break if found.size >= count
  end
  found.inspect
end

def rest(connection, other)
  check('transaction') { connection.transaction { |c| c.exec("insert into item (id, name) values (200, 'block')"); c.exec('select count(*) from item where id = 200').values }.inspect }
  check('rolled back') { connection.transaction { |c| c.exec('delete from item'); c.exec('select 1/0') } }
  check('status') { [connection.transaction_status, connection.exec('select count(*) > 5 from item').values].inspect }
  connection.exec('listen rubypg_a')
  other.exec("notify rubypg_a, 'elsewhere'")
  out('notified', notified(connection, 1))
  connection.exec('unlisten rubypg_a')
  check('cancelled') do
    connection.send_query('select pg_sleep(30)')
    sleep 0.2
    connection.cancel
    connection.get_last_result
  end
  check('after it') { told(connection.exec('select 1')) }
  check('parameters') { %w[server_encoding client_encoding is_superuser DateStyle integer_datetimes session_authorization].map { |name| connection.parameter_status(name) }.inspect }
  connection.internal_encoding = 'ISO-8859-1'
  check('in latin1') { [connection.get_client_encoding, connection.exec("select 'ü'".encode('ISO-8859-1')).values[0][0].encode('UTF-8')].inspect }
  connection.internal_encoding = 'UTF-8'
  check('large object') do
    connection.transaction do
      oid = connection.lo_creat
      descriptor = connection.lo_open(oid, PG::INV_READ | PG::INV_WRITE)
      connection.lo_write(descriptor, 'large object')
      connection.lo_lseek(descriptor, 6, 0)
      read = connection.lo_read(descriptor, 6)
      connection.lo_close(descriptor)
      connection.lo_unlink(oid)
      read
    end
  end
end

connection, other = PG.connect, PG.connect
(1..3).each do |number|
  $stage = number
  if number > 1
    puts 'PAUSE'
    $stdin.gets
    3.times { |n| check("carried write #{n}") { told(connection.exec_prepared('carried_write', [10])) } }
    3.times { |n| check("carried read #{n}") { told(connection.exec_prepared('carried_read', [10])) } }
    check('carried in SQL') { told(connection.exec('execute carried_sql')) }
    other.exec("notify rubypg_b, 'across'")
    out('carried channel', notified(connection, 1))
    connection.exec('deallocate all')
  end
  common(connection)
  parameters(connection)
  pipelines(connection)
  single_rows(connection)
  copies(connection)
  rest(connection, other)
  connection.prepare('carried_write', 'update item set good = not good where id = $1 returning id')
  connection.prepare('carried_read', 'select id, name from item where id = $1')
  connection.exec('prepare carried_sql as update item set price = 1 where id = 10 returning id')
  connection.exec('listen rubypg_b')
end
