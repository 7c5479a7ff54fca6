// Shadow reads that gave other rows on the mirror: groups, and one group down to its cells; and how long
// statements take on each side.
import { useState } from "./vendor/preact-hooks.js";
import { send } from "./api.js";
import { ago, count, duration, moment, plural, times, words } from "./format.js";
import { useClock, useResource } from "./live.js";
import { pair, redacted } from "./diff.js";
import { Badge, Card, Fact, Problem, Table, forbidden, html, useAction } from "./ui.js";

const link = (fingerprint) => `#/discrepancies/${encodeURIComponent(fingerprint)}`;
const Known = ({ group }) => (group.acknowledged ? html`<${Badge} kind="good">acknowledged<//>` : html`<${Badge} kind="bad">unacknowledged<//>`);

export function Discrepancies() {
  const { data, error } = useResource("/discrepancies", "discrepancies");
  const [known, setKnown] = useState("open");
  const now = useClock();
  if (!data) return html`<${Problem} error=${error}/>${!error && html`<p class="empty">Loading…</p>`}`;
  const groups = data.groups.filter((group) => known === "all" || group.acknowledged === (known === "known"));
  const columns = [
    { name: "sql", title: "Statement", cell: (group) => html`<a class="sql" href=${link(group.fingerprint)} title=${group.sql}>${group.sql}</a>` },
    { name: "kind", title: "Kind", cell: (group) => words(group.kind) },
    { name: "tables", title: "Tables", value: (group) => group.tables.join(", "), wrap: true },
    { name: "count", title: "Count", number: true, cell: (group) => count(group.count) },
    { name: "last_seen_unix_ms", title: "Last seen", number: true, cell: (group) => html`<span title=${moment(group.last_seen_unix_ms)}>${ago(group.last_seen_unix_ms, now)}</span>` },
    { name: "phase", title: "Phase", cell: (group) => words(group.phase) },
    { name: "user", title: "Role" },
    { name: "acknowledged", title: "State", value: (group) => (group.acknowledged ? "acknowledged" : "unacknowledged"), cell: (group) => html`<${Known} group=${group}/>${group.note && html`<small>${group.note}</small>`}` },
  ];
  return html`<${Problem} error=${error}/>
    <section class="card" aria-label="Totals"><dl class="facts compact">
      <${Fact} name="Unacknowledged"><b class="big">${count(data.unacknowledged)}</b><//><${Fact} name="Confirmed"><b class="big">${count(data.confirmed)}</b><small>by a second look</small><//>
      <${Fact} name="Raced"><b class="big">${count(data.raced)}</b><small>equal at the second look</small><//><${Fact} name="Inconclusive"><b class="big">${count(data.inconclusive)}</b><//>
      <${Fact} name="Pending"><b class="big">${count(data.pending)}</b><//><${Fact} name="Dropped"><b class="big">${count(data.dropped)}</b><//></dl></section>
    <section class="card" aria-label="Groups"><${Table} key=${known} caption="Discrepancies by fingerprint" columns=${columns} rows=${groups} keyOf=${(group) => group.fingerprint} sort=${{ name: "last_seen_unix_ms", down: true }}
      empty=${data.groups.length ? "None in this state." : "No discrepancy was found. Reads are compared in DUAL_READ and SWITCHOVER."}
      tools=${html`<label class="filter">Show <select value=${known} onChange=${(event) => setKnown(event.target.value)}><option value="open">unacknowledged</option><option value="known">acknowledged</option><option value="all">all</option></select></label>`}/></section>
    <${Times}/>`;
}

const took = (us) => (us < 1000 ? `${count(us)} µs` : us < 100_000 ? `${(us / 1000).toFixed(1)} ms` : duration(us / 1000));
const ratio = (statement) => statement.target_us / Math.max(1, statement.source_us);

function Times() {
  const { data, error } = useResource("/shadow/times", null, 5000);
  if (!data) return html`<${Problem} error=${error}/>`;
  const judged = (statement) => statement.runs >= data.enough_runs;
  const columns = [
    { name: "sql", title: "Statement", cell: (statement) => html`<span class="sql" title=${statement.sql}>${statement.sql}</span>` },
    { name: "source_us", title: "Source", number: true, cell: (statement) => took(statement.source_us) },
    { name: "target_us", title: "Target", number: true, cell: (statement) => took(statement.target_us) },
    { name: "ratio", title: "Target to source", number: true, value: ratio, cell: (statement) => `${ratio(statement).toFixed(ratio(statement) < 10 ? 1 : 0)}×` },
    { name: "runs", title: "Runs", number: true, cell: (statement) => count(statement.runs) },
    { name: "state", title: "State", value: (statement) => (statement.slower ? "slower" : judged(statement) ? "fine" : "few runs"), cell: (statement) => (statement.slower
      ? html`<a href=${link(`${statement.fingerprint}-slower`)}><${Badge} kind="bad">slower on the target<//></a>` : html`<${Badge} kind=${judged(statement) ? "good" : "off"}>${judged(statement) ? "fine" : "few runs"}<//>`) },
  ];
  return html`<section class="card" aria-label="Times"><${Table} caption="Time by statement, on each side" columns=${columns} rows=${data.statements} keyOf=${(statement) => statement.fingerprint} filter=${false} sort=${{ name: "ratio", down: true }}
      empty="None was run again yet. A share of the reads that matched is, on both sides, by Banyan itself."
      tools=${html`<span class="note">Time of each statement on both sides, medians of its last runs. Slower: more than ${data.slower_factor}× and by ${data.slower_by_ms} ms.</span>`}/></section>`;
}

export function Discrepancy({ id }) {
  const { data: group, error, refresh } = useResource(`/discrepancies/${encodeURIComponent(id)}`, "discrepancies");
  const action = useAction();
  const why = forbidden("operator");
  if (!group) return html`<${Problem} error=${error}/>${!error && html`<p class="empty">Loading…</p>`}`;
  const submit = (event) => {
    event.preventDefault();
    if (why || action.busy) return;
    const note = new FormData(event.target).get("note").trim();
    action.run(async () => {
      await send("POST", `/discrepancies/${encodeURIComponent(id)}/acknowledge`, { note });
      await refresh();
      return "Acknowledged.";
    });
  };
  const hidden = group.samples.some((sample) => [...sample.only_on_primary, ...sample.only_on_mirror].flat().some(redacted));
  return html`<${Problem} error=${error}/><div class="grid">
    <${Card} title="Statement" id="statement" wide extra=${html`<${Known} group=${group}/>`}><pre class="sql-text" tabindex="0">${group.sql}</pre>
      <dl class="facts compact"><${Fact} name="Kind">${words(group.kind)}<//><${Fact} name="Tables">${group.tables.join(", ") || "–"}<//><${Fact} name="Seen">${times(group.count)}<//>
      <${Fact} name="First">${moment(group.first_seen_unix_ms)}<//><${Fact} name="Last">${moment(group.last_seen_unix_ms)}<//><${Fact} name="Phase">${words(group.phase)}<//><${Fact} name="Role">${group.user}<//>
      ${group.acknowledged && html`<${Fact} name="Acknowledged">by ${group.acknowledged_by}${group.note && html`<small>${group.note}</small>`}<//>`}</dl>
      <form class="inline" onSubmit=${submit}><label for="note">Note</label><input id="note" name="note" autocomplete="off" placeholder="why this is known"/>
        <button class="primary" aria-disabled=${why || action.busy ? "true" : undefined} aria-describedby="acknowledge-why">${group.acknowledged ? "Acknowledge again" : "Acknowledge"}</button>
        <span id="acknowledge-why" class="note">${why && `Not possible: ${why}.`}</span><span role="status">${action.done}</span></form>
      <${Problem} error=${action.error}/><//>
    ${hidden && html`<p class="note wide"><span class="redacted"><span aria-hidden="true">▒</span> text, 5 bytes #a1b2c3</span> A redacted cell: its type, length and a short hash. Equal hashes mean equal values, until Banyan restarts. <code>[shadow] redact = false</code> shows values.</p>`}
    ${group.samples.map((sample, index) => html`<${Sample} key=${index} sample=${sample} number=${index + 1}/>`)}
    ${group.samples.length === 0 && html`<p class="empty wide">No example is kept.</p>`}
  </div>`;
}

function Cell({ cell }) {
  if (cell === null || cell === undefined) return html`<i class="null">NULL</i>`;
  const hidden = redacted(cell);
  if (hidden) return html`<span class="redacted" title="redacted"><span aria-hidden="true">▒</span><span class="sr-only">redacted: </span> ${hidden.type}, ${plural(hidden.length, "byte")} <span class="hash">#${hidden.hash}</span></span>`;
  return cell === "" ? html`<i class="null">empty text</i>` : html`<span class="cell">${cell}</span>`;
}

function Row({ side, cells, differs, alone }) {
  return html`<tr class=${`${side} ${alone ? "alone" : ""}`}><th scope="row">${alone ? html`<span class="icon" aria-hidden="true">${side === "primary" ? "−" : "+"}</span> only on the ${side}` : side}</th>
    ${cells.map((cell, at) => html`<td class=${differs[at] ? "differs" : ""} data-differs=${differs[at] ? "yes" : undefined}>${differs[at] && html`<span class="icon" aria-hidden="true">≠</span><span class="sr-only">differs: </span>`}<${Cell} cell=${cell}/></td>`)}</tr>`;
}

const Slower = ({ sample, number }) => html`<${Card} wide title=${`Example ${number}`} id=${`sample-${number}`} extra=${html`<span class="muted">${moment(sample.at_unix_ms)}, ${words(sample.phase)}; ${plural(sample.primary_rows, "row")} on both sides</span>`}>
  <dl class="facts compact"><${Fact} name="Source"><b class="big">${took(sample.times.source_us)}</b><//><${Fact} name="Target"><b class="big">${took(sample.times.target_us)}</b><small>${ratio(sample.times).toFixed(1)}× the source</small><//>
    <${Fact} name="Runs">${count(sample.times.runs)}<small>medians of the last</small><//></dl><//>`;

function Sample({ sample, number }) {
  if (sample.times) return html`<${Slower} sample=${sample} number=${number}/>`;
  const pairs = pair(sample.only_on_primary, sample.only_on_mirror);
  const differing = sample.columns.filter((_, at) => pairs.some((one) => one.differs[at]));
  const title = `Example ${number}`;
  return html`<${Card} wide title=${title} id=${`sample-${number}`} extra=${html`<span class="muted">${moment(sample.at_unix_ms)}, ${words(sample.phase)}; ${plural(sample.primary_rows, "row")} on the primary, ${count(sample.mirror_rows)} on the mirror</span>`}>
    ${sample.mirror_error && html`<p class="problem">The mirror answered with an error: ${sample.mirror_error}</p>`}
    ${differing.length > 0 && html`<p>Differing: ${differing.map((name, at) => html`${at > 0 && ", "}<code>${name}</code>`)}</p>`}
    ${pairs.length > 0 ? html`<div class="scroll" tabindex="0" role="region" aria-label=${`${title}: rows`}><table class="diff"><caption class="sr-only">${title}: rows that differ, primary above mirror</caption>
      <thead><tr><th scope="col">Side</th>${sample.columns.map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
      ${pairs.map((one, at) => html`<tbody key=${at}>${one.primary && html`<${Row} side="primary" cells=${one.primary} differs=${one.differs} alone=${!one.mirror}/>`}
        ${one.mirror && html`<${Row} side="mirror" cells=${one.mirror} differs=${one.differs} alone=${!one.primary}/>`}</tbody>`)}</table></div>`
      : !sample.mirror_error && html`<p class="empty">No row is on one side only: the order or the number of equal rows differs.</p>`}<//>`;
}
