// Journal, sessions, preflight and audit: one resource each.
import { useState } from "./vendor/preact-hooks.js";
import { get } from "./api.js";
import { ago, bytes, count, duration, moment, value, words } from "./format.js";
import { useClock, useResource } from "./live.js";
import { Badge, Button, Card, Fact, Problem, State, Table, html, useAction } from "./ui.js";

const Loading = ({ error }) => (error ? html`<${Problem} error=${error}/>` : html`<p class="empty">Loading…</p>`);

export function Journal() {
  const { data: it, error } = useResource("/journal", "journal");
  const now = useClock();
  if (!it) return html`<${Loading} error=${error}/>`;
  return html`<${Problem} error=${error}/><div class="grid">
    <${Card} wide title="State" id="state" extra=${it.failed ? html`<${Badge} kind="bad">writes fail<//>` : html`<${Badge} kind="good">writing<//>`}><dl class="facts">
      <${Fact} name="In flight"><b class="big">${count(it.in_flight)}</b><small>${it.in_flight > 0 ? `oldest ${duration(it.oldest_in_flight_ms)}` : "no commit is open"}</small><//>
      <${Fact} name="In limbo"><b class="big">${count(it.limbo)}</b><small>outcome unknown</small><//>
      <${Fact} name="Dirty keys"><b class="big">${count(it.dirty)}</b><small>${it.dirty > 0 ? `oldest ${duration(it.oldest_dirty_ms)}; ` : ""}limit ${count(it.max_dirty_keys)}</small><//>
      <${Fact} name="Suspect tables"><b class="big">${count(it.suspect_tables)}</b><//>
      <${Fact} name="Repaired"><b class="big">${count(it.repaired_total)}</b><small>keys since the start</small><//>
      <${Fact} name="Entries"><b class="big">${count(it.journaled_total)}</b><small>${count(it.batches_total)} batches of ${it.mean_batch?.toFixed?.(1) ?? "–"}</small><//>
      <${Fact} name="Errors"><b class="big">${count(it.errors_total)}</b><//>
      <${Fact} name="On disk"><b class="big">${bytes(it.bytes)}</b><small>durability: ${it.durability}</small><//>
      <${Fact} name="Collapsed"><b class="big">${count(it.collapsed_writes_total + it.collapsed_dirty_total)}</b><small>kept as ranges</small><//></dl><//>
    <${Card} title="Dirty keys by table" id="by-table"><${Table} caption="Dirty keys by table" filter=${false} rows=${it.dirty_tables} empty="No key is dirty." columns=${[{ name: "table", title: "Table" }, { name: "dirty", title: "Dirty keys", number: true, cell: (row) => count(row.dirty) }]}/><//>
    <${Card} title="Suspect tables" id="suspects"><${Table} caption="Suspect tables" filter=${false} rows=${it.suspects} empty="No table is suspect." columns=${[{ name: "table", title: "Table" }, { name: "reason", title: "Reason", wrap: true },
      { name: "ranges", title: "Extent", value: (row) => (row.ranges === null ? "whole table" : `${count(row.ranges)} ranges`) }, { name: "since_unix_ms", title: "Since", number: true, cell: (row) => ago(row.since_unix_ms, now) }]}/><//>
    <${Card} wide title="Examples of dirty keys" id="sample"><${Table} caption="Examples of dirty keys" filter=${false} rows=${it.dirty_sample} empty="No key is dirty." columns=${[{ name: "table", title: "Table" }, { name: "key", title: "Key (hexadecimal)", cell: (row) => html`<code class="wrap">${row.key}</code>` },
      { name: "reason", title: "Reason", wrap: true }, { name: "generation", title: "Generation", number: true }, { name: "attempts", title: "Attempts", number: true }]}/><//></div>`;
}

export function Sessions() {
  const { data, error } = useResource("/sessions", "sessions");
  const now = useClock();
  if (!data) return html`<${Loading} error=${error}/>`;
  return html`<${Problem} error=${error}/><section class="card" aria-label="Sessions"><${Table} caption="Sessions" rows=${data.sessions} keyOf=${(row) => row.id} empty="No client is connected." columns=${[
    { name: "id", title: "Session", number: true }, { name: "user", title: "Role" }, { name: "application", title: "Application" }, { name: "client", title: "Client" },
    { name: "state", title: "State", cell: (row) => words(row.state) }, { name: "phase", title: "Phase", nowrap: true, cell: (row) => words(row.phase) },
    { name: "mirror", title: "Mirror", value: (row) => (row.mirror_ready ? "ready" : row.journal_only ? "journal only" : "none"), cell: (row) => html`<${Badge} kind=${row.mirror_ready ? "good" : row.journal_only ? "warn" : "off"} title=${row.mirror_login}>${row.mirror_ready ? "ready" : row.journal_only ? "journal only" : "none"}<//>` },
    { name: "transaction_age_ms", title: "Transaction", number: true, cell: (row) => (row.transaction_age_ms > 0 ? duration(row.transaction_age_ms) : "–") },
    { name: "connected_unix_ms", title: "Connected", number: true, cell: (row) => html`<span title=${moment(row.connected_unix_ms)}>${ago(row.connected_unix_ms, now)}</span>` },
    { name: "source_process_id", title: "Processes", nowrap: true, value: (row) => `${row.source_process_id || "–"} / ${row.target_process_id || "–"}` },
    { name: "blocking", title: "Blocking", value: (row) => (row.blocking ?? []).join(", "), wrap: true }]}/></section>`;
}

const rank = { block: 0, warn: 1, info: 2, ok: 3 };

export function Preflight() {
  const { data, error, refresh } = useResource("/preflight");
  const action = useAction();
  if (error?.status === 404) return html`<p class="empty">This Banyan has no preflight checks. The gates say what the next step waits for.</p>`;
  if (!data) return html`<${Loading} error=${error}/>`;
  const findings = [...data.findings].sort((a, b) => rank[a.severity] - rank[b.severity]);
  const many = (severity) => findings.filter((one) => one.severity === severity).length;
  return html`<${Problem} error=${error}/><section class="card" aria-label="Totals"><div class="actions"><${Badge} kind="bad">${many("block")} block<//><${Badge} kind="warn">${many("warn")} warn<//><${Badge} kind="info">${many("info")} to know<//><${Badge} kind="good">${many("ok")} fine<//>
      <span class="space"></span><span class="muted">checked ${moment(data.checked_unix_ms)}</span><${Button} busy=${action.busy} onClick=${() => action.run(refresh)}>Check again<//></div></section>
    <section class="card" aria-label="Findings"><${Table} caption="Findings of the preflight check" rows=${findings} empty="Nothing was found." columns=${[
      { name: "name", title: "Check", cell: (row) => words(row.name) }, { name: "severity", title: "Severity", value: (row) => rank[row.severity], cell: (row) => html`<${State} of=${row.severity}/>` },
      { name: "subject", title: "Subject", wrap: true }, { name: "what", title: "What", wrap: true }, { name: "why", title: "Why it matters", wrap: true },
      { name: "phase", title: "Blocks in", nowrap: true, cell: (row) => (row.phase ? words(row.phase) : "–") }, { name: "fix", title: "How to fix", wrap: true }]}/></section>`;
}

export function Audit() {
  const { data, error } = useResource("/audit?limit=200", "audit");
  const [older, setOlder] = useState([]);
  const [end, setEnd] = useState(false);
  const action = useAction();
  if (!data) return html`<${Loading} error=${error}/>`;
  const known = new Set(data.audit.map((row) => row.id));
  const rows = [...data.audit, ...older.filter((row) => !known.has(row.id))];
  const more = () => action.run(async () => {
    const next = (await get(`/audit?limit=200&before=${rows[rows.length - 1].id}`)).audit;
    setOlder([...older, ...rows.filter((row) => known.has(row.id)), ...next].filter((row, at, all) => all.findIndex((other) => other.id === row.id) === at));
    if (next.length < 200) setEnd(true);
  });
  return html`<${Problem} error=${error ?? action.error}/><section class="card" aria-label="Audit log"><${Table} caption="Audit log, newest first" rows=${rows} keyOf=${(row) => row.id} empty="Nothing has been changed yet." columns=${[
    { name: "id", title: "No.", number: true }, { name: "at_unix_ms", title: "When", nowrap: true, cell: (row) => moment(row.at_unix_ms) }, { name: "actor", title: "Who", cell: (row) => html`${row.actor}<small>${row.address}</small>`, value: (row) => `${row.actor} ${row.address}` },
    { name: "action", title: "Action" }, { name: "subject", title: "Subject", wrap: true }, { name: "reason", title: "Reason", wrap: true },
    { name: "before", title: "Before", value: (row) => value(row.before), wrap: true }, { name: "after", title: "After", value: (row) => value(row.after), wrap: true }, { name: "result", title: "Result", wrap: true },
    { name: "hash", title: "Hash", cell: (row) => html`<code title=${`${row.hash}\nprevious: ${row.previous}`}>${String(row.hash).slice(0, 8)}</code>` }]}/>
    ${rows.length >= 200 && !end && html`<div class="actions"><${Button} busy=${action.busy} onClick=${more}>Load older entries<//></div>`}</section>`;
}
