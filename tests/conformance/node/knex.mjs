// knex: a query builder with a pool: schema builder, batches, nested transactions, streams.
import knexOf from 'knex';
import { check, out, pause, state, statements, target } from './common.mjs';

const knex = knexOf({ client: 'pg', connection: target, pool: { min: 1, max: 1 } });

async function common() {
  // A question mark or a colon in raw SQL would be a binding.
  for (const [name, text] of statements()) {
    await check(name, async () => { const found = await knex.raw(text.replaceAll('?', '\\?')); return [found.command, found.rowCount, found.rows]; });
  }
}

async function parts() {
  await check('insert', async () => knex('item').insert([{ id: 300, name: 'knex' }, { id: 301, name: 'ünï 🌳', doc: JSON.stringify({ a: 1 }) }]).returning(['id', 'name', 'doc']));
  await check('update', async () => knex('item').where('id', '>=', 300).andWhere('id', '<', 302).update({ price: 2.5 }));
  await check('increment', async () => knex('item').where({ id: 300 }).increment('price', 1).returning('price'));
  await check('select', async () => knex('item').select('id', 'name', 'price').whereIn('id', [300, 301]).orderBy('id'));
  await check('join', async () => knex('item').join('pair', 'pair.a', 'item.id').count('* as n').first());
  await check('merge', async () => knex('uniq').insert({ id: 9, code: 'k', n: 1 }).onConflict('code').merge({ n: 2 }).returning('*'));
  await check('ignore', async () => knex('uniq').insert({ id: 9, code: 'k', n: 1 }).onConflict('id').ignore());
  await check('batch', async () => (await knex.batchInsert('item', Array.from({ length: 100 }, (_, n) => ({ id: 400 + n, name: `batch ${n}` })), 30).returning('id')).length);
  await check('duplicate', async () => knex('item').insert({ id: 300 }));
  await check('transaction', async () => knex.transaction(async (tx) => {
    await tx('item').insert({ id: 200, name: 'outer' });
    await tx.transaction(async (inner) => { await inner('item').insert({ id: 201, name: 'inner' }); throw new Error('own'); }).catch((error) => out('inner', error.message));
    return tx('item').select('id', 'name').whereBetween('id', [200, 209]);
  }, { isolationLevel: 'repeatable read' }));
  await check('rolled back', async () => knex.transaction(async (tx) => { await tx('item').del(); await tx.raw('select 1/0'); }));
  await check('left', async () => knex('item').count('* as n').whereBetween('id', [200, 209]).first());
  await check('stream', async () => { let sum = 0; for await (const row of knex.raw('select g from generate_series(1, 500) g').stream({ highWaterMark: 20 })) sum += row.g; return sum; }).catch(() => {});
  await check('create table', async () => knex.schema.createTable('built', (table) => { table.integer('id').primary(); table.string('name', 40).notNullable().index(); table.jsonb('doc').defaultTo('{}'); table.decimal('price', 10, 2); }));
  await check('into it', async () => knex('built').insert({ id: 1, name: 'x', price: '1.25' }).returning('*'));
  await check('alter table', async () => knex.schema.alterTable('built', (table) => { table.boolean('extra').defaultTo(true); table.dropColumn('price'); table.unique(['name']); }));
  await check('altered', async () => knex('built').select());
  await check('columns', async () => Object.keys(await knex('built').columnInfo()));
  await check('has table', async () => knex.schema.hasTable('built'));
  await check('rename', async () => knex.schema.renameTable('built', 'rebuilt'));
  await check('drop table', async () => knex.schema.dropTable('rebuilt'));
  await check('timeout', async () => knex.raw('select pg_sleep(30)').timeout(300, { cancel: true }));
  await check('after it', async () => knex.raw('select 1 as fine').then((found) => found.rows));
}

for (let stage = 1; stage <= 3; stage += 1) {
  if (stage > 1) await pause();
  await common();
  await parts();
}
await knex.destroy();
process.exit(0);
