// postgres.js: named statements by default, pipelined on one connection, cursors by portal, COPY, listen, reserved connections.
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import postgres from 'postgres';
import { check, out, pause, state, statements, target, until } from './common.mjs';

const notices = [];
const options = { ...target, username: target.user, max: 1, idle_timeout: 0, max_lifetime: null, fetch_types: true,
  onnotice: (notice) => notices.push([notice.severity, notice.code, notice.message]) };
const told = (rows) => [rows.command ?? null, rows.count ?? null, rows.columns?.map((column) => [column.name, column.type < 16384 ? column.type : 0]) ?? null, [...rows]];

async function common(sql) {
  let number = 0;
  for (const [name, text] of statements()) {
    number += 1;
    await check(name, async () => told(await (number % 2 ? sql.unsafe(text) : sql.unsafe(text, [], { prepare: true }))));
    if (notices.length) out(`${name} notices`, notices.splice(0));
  }
}

async function parts(sql) {
  for (let n = 0; n < 4; n += 1) await check(`tagged ${n}`, async () => told(await sql`update item set price = ${n} where id = ${10} returning id, price`));
  await check('insert helper', async () => told(await sql`insert into item ${sql([{ id: 300, name: 'helper' }, { id: 301, name: 'ünï 🌳' }], 'id', 'name')} returning id, name`));
  await check('update helper', async () => told(await sql`update item set ${sql({ name: 'set', price: '2.5' })} where id in ${sql([300, 301])}`));
  await check('json', async () => told(await sql`update item set doc = ${sql.json({ a: [1, null] })}, tags = ${['a', null]}, raw = ${Buffer.from([0, 255])} where id = 300 returning doc, tags, raw`));
  await check('duplicate', async () => told(await sql`insert into item (id) values (${300})`));
  await check('wrong type', async () => told(await sql`insert into item (id) values (${'text'}::text::int)`));
  await check('kinds', async () => told(await sql`select * from kinds order by id`));
  await check('simple', async () => (await sql`select 1 as a; select 2 as b`.simple()).map(told));
  await check('describe', async () => { const d = await sql`insert into item (id, name) values (${1}, ${'x'}) returning id, name`.describe(); return [d.types, d.columns.map((c) => [c.name, c.type])]; });
  await check('raw', async () => (await sql`select 1::int4 as a, 'b' as b`.raw()).map((row) => row.map((value) => value.toString())));
  await check('values', async () => [...await sql`select id, name from item where id < 3 order by id`.values()]);
  await check('a megabyte', async () => told(await sql`update item set raw = ${Buffer.alloc(1400000, 7)} where id = 300 returning md5(raw)`));
  const settled = await Promise.allSettled(Array.from({ length: 40 }, (_, n) => n % 10 === 3 ? sql`select 1 / ${0}::int` : sql`insert into item (id, name) values (${400 + n}, 'pipelined') returning id`));
  out('pipelined', settled.map((one) => one.status === 'fulfilled' ? one.value[0].id : one.reason.code));
  await check('cursor', async () => { const sizes = []; await sql`select g from generate_series(1, ${50}) g`.cursor(7, (rows) => { sizes.push(rows.length); }); return sizes; });
  await check('cursor left', async () => { let count = 0; for await (const rows of sql`select g from generate_series(1, 50) g`.cursor(7)) { count += rows.length; if (count > 20) break; } return count; });
  await check('cursor of a write', async () => { const sizes = []; await sql`insert into item (id, name) select g, 'cursor' from generate_series(500, 520) g returning id`.cursor(8, (rows) => { sizes.push(rows.length); }); return sizes; });
  await check('for each', async () => { let sum = 0; await sql`select g from generate_series(1, 100) g`.forEach((row) => { sum += row.g; }); return sum; });
  await check('begin', async () => sql.begin(async (tx) => {
    await tx`insert into item (id, name) values (200, 'block')`;
    await tx.savepoint(async (inner) => { await inner`insert into item (id, name) values (201, 'inner')`; await inner`select 1/0`; }).catch((error) => out('inner', error.code));
    return told(await tx`select id, name from item where id between 200 and 209`);
  }));
  await check('begin pipelined', async () => (await sql.begin((tx) => [tx`insert into item (id, name) values (210, 'a')`, tx`update item set name = 'b' where id = 210 returning name`, tx`select name from item where id = 210`])).map(told));
  await check('begin fails', async () => sql.begin('isolation level serializable', (tx) => [tx`insert into item (id, name) values (211, 'a')`, tx`insert into item (id) values (210)`]));
  await check('prepared transaction', async () => sql.begin(async (tx) => { await tx`insert into item (id, name) values (212, 'two-phase')`; await tx.prepare('postgresjs prepared'); }));
  await check('commit prepared', async () => told(await sql`commit prepared 'postgresjs prepared'`));
  await check('left', async () => told(await sql`select id, name from item where id between 200 and 219 order by id`));
  await sql`delete from pair`;
  await check('copy in', async () => { await pipeline(Readable.from(Array.from({ length: 500 }, (_, n) => `${n}\tc${n}\n`)), await sql`copy pair (a, b) from stdin`.writable()); return told(await sql`select count(*), sum(a) from pair`); });
  await check('copy out', async () => { let text = ''; for await (const chunk of await sql`copy (select a, b from pair where a < 5 order by a) to stdout`.readable()) text += chunk; return text; });
  await check('cancelled', async () => { const query = sql`select pg_sleep(30)`; setTimeout(() => query.cancel(), 300); return told(await query); });
  await check('after it', async () => told(await sql`select 1 as fine`));
}

const sql = postgres(options);
const other = postgres(options);
const heard = [];
for (let stage = 1; stage <= 3; stage += 1) {
  if (stage > 1) {
    await pause();
    for (let n = 0; n < 3; n += 1) {
      await check(`carried write ${n}`, async () => told(await sql`update item set good = not good where id = ${10} returning id`));
      await check(`carried read ${n}`, async () => told(await sql`select id, name from item where id = ${10}`));
    }
    await other.notify('postgresjs', 'across');
    await until(() => heard.length);
    out('carried channel', heard.splice(0));
    await check('carried setting', async () => told(await sql`select current_setting('my.carried') as v`));
  } else {
    await sql.listen('postgresjs', (payload) => heard.push(payload));
  }
  await common(sql);
  await parts(sql);
  await other.notify('postgresjs', 'elsewhere');
  await until(() => heard.length);
  out('notified', heard.splice(0));
  await sql`update item set good = not good where id = ${10} returning id`;
  await sql`select id, name from item where id = ${10}`;
  await sql`select set_config('my.carried', 'kept', false)`;
}
await sql.end();
await other.end();
process.exit(0);
