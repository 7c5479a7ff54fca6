// node-postgres: simple and extended protocol, named statements, row mode, cursors, COPY streams, many queries queued, a pool.
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import pg from 'pg';
import Cursor from 'pg-cursor';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import { check, out, pause, sleep, state, statements, target, until } from './common.mjs';

const connect = async () => { const client = new pg.Client(target); await client.connect(); return client; };
const told = (result) => Array.isArray(result) ? result.map(told)
  : [result.command, result.rowCount, result.fields.map((field) => [field.name, field.dataTypeID < 16384 ? field.dataTypeID : 0, field.format]), result.rows];

async function common(client) {
  const notices = [];
  const listener = (notice) => notices.push([notice.severity, notice.code, notice.message]);
  client.on('notice', listener);
  let number = 0;
  for (const [name, text] of statements()) {
    number += 1;
    // In turn: simple, and extended because it has (no) values.
    await check(name, async () => told(await (number % 2 ? client.query(text) : client.query({ text, values: [], queryMode: 'extended' }))));
    if (notices.length) out(`${name} notices`, notices.splice(0));
  }
  client.off('notice', listener);
}

async function parameters(client) {
  const values = [1, '9007199254740993', 1.5, 'ünï 🌳', Buffer.from([0, 255]), true, null, [1, null, 3], { a: [1] }, new Date(0)];
  const kinds = ['int', 'bigint', 'float8', 'text', 'bytea', 'bool', 'text', 'int[]', 'jsonb', 'timestamptz'];
  for (let i = 0; i < values.length; i += 1) await check(`value ${i}`, async () => told(await client.query(`select $1::${kinds[i]} as v`, [values[i]])));
  for (let n = 0; n < 4; n += 1) {
    await check(`named ${n}`, async () => told(await client.query({ name: 'set', text: 'update item set price = $1 where id = $2 returning id, price', values: [n, 10] })));
  }
  await check('named otherwise', async () => told(await client.query({ name: 'set', text: 'select 1' })));
  await check('binary', async () => told(await client.query({ text: 'select id, name, good from item where id < 5 order by id', binary: true, values: [] })));
  await check('row mode', async () => told(await client.query({ text: 'select 1 as a, 2 as a', rowMode: 'array' })));
  await check('insert', async () => told(await client.query('insert into item (id, name, price, doc, raw, tags) values ($1, $2, $3, $4, $5, $6) returning *', [300, 'n', '1.5', { a: 1 }, Buffer.from('raw'), ['t', null]])));
  await check('duplicate', async () => told(await client.query('insert into item (id) values ($1)', [300])));
  await check('wrong type', async () => told(await client.query('insert into item (id) values ($1)', ['text'])));
  await check('too few', async () => told(await client.query('select $1::int, $2::int', [1])));
  await check('several', async () => told(await client.query("insert into item (id) values (301); update item set name = 's' where id = 301 returning name; select 2")));
  await check('several with an error', async () => told(await client.query('insert into item (id) values (302); select 1/0')));
  await check('a megabyte', async () => told(await client.query('update item set raw = $1 where id = 300 returning md5(raw)', [Buffer.alloc(1400000, 7)])));
  await check('kinds', async () => told(await client.query('select * from kinds order by id')));
}

async function queued(client) {
  const all = [];
  for (let n = 0; n < 30; n += 1) {
    all.push(client.query('insert into item (id, name) values ($1, $2) returning id', [400 + n, `queued ${n}`]));
    if (n % 10 === 3) all.push(client.query('select 1/0 as oops'));
  }
  const settled = await Promise.allSettled(all);
  out('queued', settled.map((one) => one.status === 'fulfilled' ? one.value.rows[0].id : one.reason.code));
}

async function transactions(client) {
  await client.query('begin isolation level repeatable read');
  await check('in a block', async () => told(await client.query("insert into item (id, name) values (200, 'block')")));
  await client.query('savepoint a');
  await check('fails', async () => told(await client.query('insert into item (id) values (200)')));
  await check('refused', async () => told(await client.query('select 1')));
  await client.query('rollback to savepoint a');
  await check('isolation', async () => told(await client.query('show transaction_isolation')));
  await check('commit', async () => told(await client.query('commit')));
  await check('left', async () => told(await client.query('select id, name from item where id = 200')));
}

async function streams(client) {
  await client.query('begin');
  const cursor = client.query(new Cursor('select g, repeat($1, 10) from generate_series(1, 50) g', ['x']));
  const sizes = [];
  for (let rows = await cursor.read(7); rows.length; rows = await cursor.read(7)) sizes.push(rows.length);
  await cursor.close();
  out('cursor', sizes);
  const writing = client.query(new Cursor("insert into item (id, name) select g, 'cursor' from generate_series(500, 520) g returning id"));
  out('cursor of a write', [(await writing.read(4)).length, (await writing.read(100)).length]);
  await writing.close();
  await client.query('commit');
  await client.query('delete from pair');
  await check('copy in', async () => {
    const stream = client.query(copyFrom('copy pair (a, b) from stdin'));
    await pipeline(Readable.from(Array.from({ length: 500 }, (_, n) => `${n}\tc${n}\n`)), stream);
    return stream.rowCount;
  });
  await check('copy twice', async () => { await pipeline(Readable.from(['9000\tx\n', '1\tc1\n']), client.query(copyFrom('copy pair (a, b) from stdin'))); return 'no error'; });
  await check('copy wrong', async () => { await pipeline(Readable.from(['1\n']), client.query(copyFrom('copy nowhere from stdin'))); return 'no error'; });
  await check('copy out', async () => {
    let text = '';
    for await (const chunk of client.query(copyTo('copy (select a, b from pair where a < 5 order by a) to stdout'))) text += chunk;
    return text;
  });
  await check('copied', async () => told(await client.query('select count(*), sum(a) from pair')));
}

async function rest(client, other, heard) {
  await client.query('listen pg_driver_a');
  await other.query("notify pg_driver_a, 'elsewhere'");
  await until(() => heard.length);
  out('notified', heard.splice(0));
  await client.query('unlisten pg_driver_a');
  const process_id = client.processID;
  setTimeout(() => { const cancelling = new pg.Client(target); cancelling.connection.on('error', () => {}); cancelling.cancel({ ...client, host: target.host, port: target.port, processID: process_id, secretKey: client.secretKey, activeQuery: client.activeQuery }, client.activeQuery); }, 300);
  await check('cancelled', async () => told(await client.query('select pg_sleep(30)')));
  await check('after it', async () => told(await client.query('select 1')));
  const pool = new pg.Pool({ ...target, max: 3 });
  const ids = await Promise.all(Array.from({ length: 12 }, (_, n) => pool.query('insert into item (id, name) values ($1, $2) returning id', [700 + n, 'pool'])));
  out('pool', ids.map((result) => result.rows[0].id));
  await pool.end();
}

const [client, other] = [await connect(), await connect()];
const heard = [];
client.on('notification', (message) => heard.push([message.channel, message.payload]));
for (let stage = 1; stage <= 3; stage += 1) {
  if (stage > 1) {
    await pause();
    for (let n = 0; n < 3; n += 1) {
      await check(`carried write ${n}`, async () => told(await client.query({ name: `carried write ${stage - 1}`, text: 'update item set good = not good where id = $1 returning id', values: [10] })));
      await check(`carried read ${n}`, async () => told(await client.query({ name: `carried read ${stage - 1}`, text: 'select id, name from item where id = $1', values: [10] })));
    }
    await other.query("notify pg_driver_b, 'across'");
    await until(() => heard.length);
    out('carried channel', heard.splice(0));
    await check('carried setting', async () => told(await client.query("select current_setting('my.carried')")));
  }
  await common(client);
  for (const part of [parameters, queued, transactions, streams]) await part(client);
  await rest(client, other, heard);
  await client.query('deallocate all');
  client.connection.parsedStatements = {};
  await client.query({ name: `carried write ${stage}`, text: 'update item set good = not good where id = $1 returning id', values: [10] });
  await client.query({ name: `carried read ${stage}`, text: 'select id, name from item where id = $1', values: [10] });
  await client.query('listen pg_driver_b');
  await client.query("set my.carried = 'kept'");
}
await client.end();
await other.end();
process.exit(0);
