// What the Node scripts share: the checks of common.sql, and printing.
import fs from 'node:fs';
import readline from 'node:readline';
import crypto from 'node:crypto';

export const state = { stage: 1 };
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

export function shown(value) {
  if (value === undefined) return 'undefined';
  if (Buffer.isBuffer(value) || value instanceof Uint8Array) return value.length < 50 ? `bytes ${Buffer.from(value).toString('hex')}` : `${value.length} bytes ${crypto.createHash('md5').update(value).digest('hex')}`;
  const text = JSON.stringify(value, (_, part) => {
    if (typeof part === 'bigint') return `${part}n`;
    if (typeof part === 'number' && !Number.isFinite(part)) return String(part);
    if (part && part.type === 'Buffer') return shown(Buffer.from(part.data));
    return part;
  });
  return text.length < 3000 ? text : `${text.length} characters ${crypto.createHash('md5').update(text).digest('hex')}`;
}

export function out(name, value) {
  process.stdout.write(`${state.stage}.${name}: ${typeof value === 'string' ? value : shown(value)}`.replaceAll('\n', '\\n') + '\n');
}

export async function check(name, work) {
  try {
    out(name, await work());
  } catch (error) {
    const fields = ['severity', 'code', 'message', 'detail', 'hint', 'position', 'constraint', 'constraint_name', 'table', 'table_name', 'routine'];
    out(name, 'ERROR ' + fields.filter((field) => error[field] !== undefined).map((field) => error[field]).join(' '));
  }
}

export async function pause() {
  process.stdout.write('PAUSE\n');
  await lines.next();
  state.stage += 1;
}

export function statements() {
  const parts = fs.readFileSync(process.env.COMMON, 'utf8').split(/^-- (.*)\n/m).slice(1);
  const found = [];
  for (let i = 0; i < parts.length; i += 2) found.push([parts[i], parts[i + 1].trim().replace(/;$/, '')]);
  return found;
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
export async function until(condition) {
  for (let tries = 0; tries < 200 && !condition(); tries += 1) await sleep(100);
}
export const target = { host: process.env.PGHOST, port: Number(process.env.PGPORT), user: process.env.PGUSER, database: process.env.PGDATABASE };
