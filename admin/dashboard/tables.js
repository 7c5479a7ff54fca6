// Tables: how exact, how far copied, how well verified.
import { send } from "./api.js";
import { ago, clock, compact, count, duration, line, moment, rate, rows_of, words } from "./format.js";
import { useClock, useLive, useResource } from "./live.js";
import { Badge, Bar, Button, Card, Fact, Problem, State, Table, forbidden, html, useAction } from "./ui.js";

const eta = (rows, estimated, per_second) => (per_second > 0 && estimated > rows ? `${duration((1000 * (estimated - rows)) / per_second)} left` : "");

function Copied({ backfill }) {
  if (!backfill) return html`<span class="muted">–</span>`;
  const done = backfill.state === "done";
  return html`<div class="progress"><span><${State} of=${backfill.state}/> <span class="number">${compact(backfill.rows_copied)}${done ? "" : ` of ${compact(backfill.rows_estimated)}`}</span></span>
    ${!done && html`<${Bar} done=${backfill.rows_copied} total=${backfill.rows_estimated} label="Copied"/>
    <small>${line(backfill.rows_per_second > 0 && `${rate(backfill.rows_per_second)} rows/s`, eta(backfill.rows_copied, backfill.rows_estimated, backfill.rows_per_second), backfill.waiting_for && `waits for ${backfill.waiting_for}`)}</small>`}
    ${backfill.error && html`<small class="wrap">${backfill.error}</small>`}</div>`;
}

function verified_rate(it, now) {
  const seconds = (now - it.started_unix_ms) / 1000;
  return it.started_unix_ms && seconds > 0 ? it.rows_compared / seconds : 0;
}

function Verified({ it, now }) {
  if (!it) return html`<span class="muted">never</span>`;
  const bad = [["missing", it.missing], ["extra", it.extra], ["different", it.different]].filter(([, n]) => n > 0).map(([name, n]) => `${count(n)} ${name}`).join(", ");
  const running = it.state === "running";
  return html`<div class="progress"><span><${State} of=${it.state}/> <span class="number">${compact(it.rows_compared)}${running ? ` of ${compact(it.rows_estimated)}` : ""}</span></span>
    ${running ? html`<${Bar} done=${it.rows_compared} total=${it.rows_estimated} label="Compared"/><small>${rate(verified_rate(it, now))} rows/s ${eta(it.rows_compared, it.rows_estimated, verified_rate(it, now))}</small>`
      : html`<small>${bad || (it.finished_unix_ms ? ago(it.finished_unix_ms, now) : "")}</small>`}${it.error && html`<small class="wrap">${it.error}</small>`}</div>`;
}

function useVerify() {
  const action = useAction();
  const { status } = useLive();
  const why = forbidden("operator") || (status.mirroring ? "" : "nothing is mirrored in this phase");
  const start = (tables, repair) => action.run(async () => `Started ${(await send("POST", "/verifications", { ...(tables.length ? { tables } : {}), repair })).id}.`);
  return { ...action, why, start };
}

export function Tables() {
  const { status } = useLive();
  const { data, error } = useResource("/tables", "tables");
  const verifications = useResource("/verifications", "verifications");
  const verify = useVerify();
  const backfill = useAction();
  const now = useClock();
  const it = status.backfill;
  const operator = forbidden("operator");
  const act = (name) => backfill.run(async () => { await send("POST", `/backfill/${name}`); return `Backfill: ${name}.`; });
  const columns = [
    { name: "name", title: "Table", cell: (table) => html`<a href=${`#/tables/${encodeURIComponent(table.name)}`}>${table.name}</a>${table.mapped_to && html`<small>→ ${table.mapped_to}</small>`}` },
    { name: "mirroring", title: "Mirroring", value: (table) => `${words(table.mirroring)} ${table.mirroring_reason ?? ""}`, cell: (table) => html`<${State} of=${table.mirroring}/>${table.mirroring_reason && html`<small class="wrap">${table.mirroring_reason}</small>`}` },
    { name: "backfill", title: "Backfill", value: (table) => table.backfill?.state ?? "", cell: (table) => html`<${Copied} backfill=${table.backfill}/>` },
    { name: "verification", title: "Verification", value: (table) => table.verification?.state ?? "", cell: (table) => html`<${Verified} it=${table.verification} now=${now}/>` },
    { name: "dirty", title: "Dirty keys", number: true, value: (table) => table.dirty ?? 0, cell: (table) => count(table.dirty) },
    { name: "suspect", title: "Suspect", value: (table) => table.suspect?.reason ?? "", cell: (table) => (table.suspect ? html`<${Badge} kind="bad">suspect<//><small class="wrap">${table.suspect.reason}, since ${clock(table.suspect.since_unix_ms)}</small>` : html`<span class="muted">no</span>`) },
    { name: "actions", title: "Actions", sortable: false, value: () => "", cell: (table) => html`<${Button} kind="small" why=${verify.why || (table.captured ? "" : "its rows are not captured")} busy=${verify.busy} aria-label=${`Verify ${table.name}`} onClick=${() => verify.start([table.name], false)}>Verify<//>` },
  ];
  const running = (verifications.data?.verifications ?? []);
  return html`<${Problem} error=${error}/><div class="grid">
    <${Card} title="Backfill" id="backfill" extra=${html`<${State} of=${it.state}/>`}>
      <p class="big-line"><b class="big">${rows_of(it.rows_copied, it.rows_estimated, it.state === "done")}</b>, ${count(it.tables_done)} of ${count(it.tables_total)} tables</p>
      <${Bar} done=${it.state === "done" ? 1 : it.rows_copied} total=${it.state === "done" ? 1 : it.rows_estimated} label="Backfill"/>
      <small>${line(it.rows_per_second > 0 && `${rate(it.rows_per_second)} rows/s`, it.eta_seconds !== null && it.state !== "done" && `about ${duration(it.eta_seconds * 1000)} left`, it.throttle_reason && `throttled: ${words(it.throttle_reason)}`)}</small>
      <div class="actions">${["start", "pause", "resume"].map((name) => html`<${Button} why=${operator || (status.mirroring ? "" : "nothing is mirrored in this phase")} busy=${backfill.busy} onClick=${() => act(name)}>${name[0].toUpperCase() + name.slice(1)}<//>`)}<span role="status">${backfill.done}</span></div>
      <${Problem} error=${backfill.error}/><//>
    <${Card} title="Verification" id="verifications" extra=${html`<span class="muted">newest first</span>`}>
      <div class="actions"><${Button} kind="primary" why=${verify.why} busy=${verify.busy} onClick=${() => verify.start([], false)}>Verify all<//>
        <${Button} why=${verify.why} busy=${verify.busy} onClick=${() => verify.start([], true)}>Verify and repair all<//><span role="status">${verify.done}</span></div>
      <${Problem} error=${verify.error ?? verifications.error}/>
      <ul class="runs">${running.slice(0, 5).map((one) => html`<${Run} key=${one.id} one=${one} now=${now}/>`)}</ul>
      ${running.length === 0 && html`<p class="empty">None since Banyan started.</p>`}<//>
    <section class="card wide" aria-label="All tables">${data && html`<${Table} caption="Tables" columns=${columns} rows=${data.tables} keyOf=${(table) => table.name} empty="No table is known yet: the catalogue is read when mirroring begins."/>`}</section></div>`;
}

function Run({ one, now }) {
  const action = useAction();
  const live = one.state === "running" || one.state === "queued";
  const rows = one.tables.reduce((sum, table) => sum + table.rows_compared, 0);
  const estimated = one.tables.reduce((sum, table) => sum + table.rows_estimated, 0);
  const per = verified_rate({ started_unix_ms: one.started_unix_ms, rows_compared: rows }, now);
  return html`<li><b>${one.id}</b> <${State} of=${one.state}/> ${count(one.tables.length)} tables, ${compact(rows)} rows${one.repair ? ", with repair" : ""}${" "}
    <span class="muted">${live ? `${rate(per)} rows/s ${eta(rows, estimated, per)}` : ago(one.finished_unix_ms, now)} ${one.actor}</span>
    ${live && html`<${Button} kind="small" busy=${action.busy} why=${forbidden("operator")} onClick=${() => action.run(() => send("DELETE", `/verifications/${encodeURIComponent(one.id)}`))}>Stop<//>`}
    <${Problem} error=${action.error}/></li>`;
}

const Keys = ({ rows, caption }) => html`<${Table} caption=${caption} filter=${false} rows=${rows} empty="No key is dirty."
  columns=${[{ name: "key", title: "Key (hexadecimal)", cell: (row) => html`<code class="wrap">${row.key}</code>` }, { name: "reason", title: "Reason", wrap: true }, { name: "generation", title: "Generation", number: true }, { name: "attempts", title: "Attempts", number: true }]}/>`;

export function TablePage({ id }) {
  const { data: table, error } = useResource(`/tables/${encodeURIComponent(id)}`, "tables");
  const verify = useVerify();
  const now = useClock();
  if (!table) return html`<${Problem} error=${error}/>${!error && html`<p class="empty">Loading…</p>`}`;
  const why = verify.why || (table.captured ? "" : "its rows are not captured");
  const sample = table.verification?.sample ?? [];
  return html`<${Problem} error=${error}/><div class="grid">
    <${Card} wide title="State" id="state" extra=${html`<div class="actions"><span role="status">${verify.done}</span><${Button} why=${why} busy=${verify.busy} onClick=${() => verify.start([id], true)}>Verify and repair<//><${Button} kind="primary" why=${why} busy=${verify.busy} onClick=${() => verify.start([id], false)}>Verify<//></div>`}>
      <${Problem} error=${verify.error}/>
      <dl class="facts"><${Fact} name="Mirroring"><${State} of=${table.mirroring}/>${table.mirroring_reason && html`<small class="wrap">${table.mirroring_reason}</small>`}<//>
        <${Fact} name="Captured by row">${table.captured ? html`<${Badge} kind="good">yes<//>` : html`<${Badge} kind="bad">no<//><small class="wrap">${table.reason}</small>`}<//>
        <${Fact} name="Key">${table.key?.length ? table.key.join(", ") : "–"}<//>
        <${Fact} name="On the target">${table.mapped_to ?? "the same name"}<//>
        <${Fact} name="Suspect">${table.suspect ? html`<${Badge} kind="bad">suspect<//><small class="wrap">${table.suspect.reason}, since ${moment(table.suspect.since_unix_ms)}</small>` : "no"}<//>
        <${Fact} name="Backfill"><${Copied} backfill=${table.backfill}/><//><${Fact} name="Verification"><${Verified} it=${table.verification} now=${now}/><//></dl><//>
    <${Card} title="Dirty keys" id="dirty" extra=${html`<b class="number">${count(table.dirty)}</b>`}><${Keys} rows=${table.dirty_sample ?? []} caption="Examples of dirty keys"/><//>
    <${Card} title="Differing rows" id="differing"><${Table} caption="Rows that the last verification found to differ" filter=${false} rows=${sample} empty="None found."
      columns=${[{ name: "key", title: "Key", cell: (row) => html`<code class="wrap">${row.key}</code>` }, { name: "kind", title: "Kind" }, { name: "columns", title: "Columns", value: (row) => (row.columns ?? []).join(", "), wrap: true }]}/><//>
    <${Card} wide title="Columns" id="columns"><${Table} caption="Columns" filter=${false} rows=${table.column_list ?? []} columns=${[{ name: "name", title: "Name" }, { name: "type", title: "Type" },
      { name: "not_null", title: "Not null", value: (row) => (row.not_null ? "yes" : "no") }, { name: "generated", title: "Generated", value: (row) => (row.generated ? "yes" : "no") }, { name: "binary", title: "Binary", value: (row) => (row.binary ? "yes" : "no") }]}/><//></div>`;
}
