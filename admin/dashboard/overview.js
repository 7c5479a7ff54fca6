// What an SRE sees at a glance.
import { Chart } from "./chart.js";
import { ago, bytes, compact, count, duration, line, plural, rate, rows_of, times, words } from "./format.js";
import { useClock, useLive } from "./live.js";
import { history } from "./metrics.js";
import { PhaseCard } from "./phase.js";
import { Badge, Bar, Card, Fact, Problem, State, html } from "./ui.js";

export function Overview() {
  const { status } = useLive();
  const now = useClock();
  return html`<div class="grid">
    <${PhaseCard} status=${status}/>
    <${Health} status=${status} now=${now}/>
    <section class="card wide" aria-labelledby="traffic"><header><h2 id="traffic">Traffic of both sides</h2><span class="muted">last ten minutes, from /metrics every 2 s</span></header>
      <${Problem} error=${history.error}/>
      <div class="charts">
        <${Chart} title="Statements per second" series=${[{ name: "queries", label: `${status.primary} (clients)`, side: "primary" }, { name: "shadow_sent", label: "mirror (shadow)", side: "mirror" }]}/>
        <${Chart} title="Row changes per second" series=${[{ name: "rows_captured", label: status.primary, side: "primary" }, { name: "rows_applied", label: "mirror (applied)", side: "mirror" }]}/>
        <${Chart} title="Wait for the mirror" unit=" ms" series=${[{ name: "mirror_wait_ms", label: "mean", side: "mirror" }]} note="What clients wait for mirroring."/>
        <${Chart} key=${status.primary} title="Response time" unit=" ms" wide least=${0.1} series=${response_times(status)} note="From sending to a server that owes no answer to the first byte that comes back; one read in 16 is timed."/>
        <${Chart} title="Banyan's overhead" unit=" µs" least=${10} series=${[{ name: "overhead_us_p50", label: "p50", side: "own" }, { name: "overhead_us_p99", label: "p99", side: "own", thin: true }]} note="Banyan's own work, from bytes read to what follows from them written."/>
      </div></section>
    <${Sync} status=${status} now=${now}/>
  </div>`;
}

function response_times({ primary }) {
  return ["source", "target"].flatMap((side) => [50, 99].map((percent) => (
    { name: `${side}_ms_p${percent}`, label: `${side} p${percent}`, side: side === primary ? "primary" : "mirror", thin: percent === 99 })));
}

function Server({ name, side, role }) {
  const kind = side.reachable === null ? "wait" : side.reachable ? "good" : "bad";
  return html`<${Fact} name=${html`${name} <span class="muted">${role}</span>`}><${Badge} kind=${kind} title=${side.error}>${side.reachable === null ? "not asked yet" : side.reachable ? "reachable" : "unreachable"}<//>
    ${side.in_recovery && html` <${Badge} kind="warn">standby<//>`}${side.last_change && html` <small class="muted">${words(side.last_change)}</small>`}
    ${side.error && html`<small class="wrap">${side.error}</small>`}<//>`;
}

function renewed(lease) {
  const held = ["source", "target"].filter((side) => lease[side]?.held);
  if (lease.state === "lost") return `to ${lease.lost_to}`;
  return held.length ? `on ${held.join(" and ")}, renewed ${duration(Math.max(...held.map((side) => lease[side].renewed_ms_ago ?? 0)))} ago` : "kept while mirroring";
}

function Health({ status, now }) {
  const { breaker, lease, journal, sessions, shadow } = status;
  const role = (side) => (side === status.primary ? "primary" : side === status.mirror ? "mirror" : "");
  return html`<section class="card wide" aria-labelledby="health"><header><h2 id="health">Health</h2>${status.hold && html`<${Badge} kind="warn">sessions are held<//>`}</header><dl class="facts five">
    <${Server} name="Source" side=${status.source} role=${role("source")}/>
    <${Server} name="Target" side=${status.target} role=${role("target")}/>
    <${Fact} name="Breaker"><${State} of=${breaker.state}/><small>${breaker.state === "closed" ? breaker.opened_total === 0 ? "never opened" : `opened ${times(breaker.opened_total)}` : `${words(breaker.cause)} for ${duration(breaker.open_ms)}`}</small>
      ${breaker.detail && breaker.state !== "closed" && ![status.source.error, status.target.error].includes(breaker.detail) && html`<small class="wrap">${breaker.detail}</small>`}<//>
    <${Fact} name="Journal">${journal.failed ? html`<${Badge} kind="bad">writes fail<//>` : html`<${Badge} kind="good">writing<//>`}<small>${count(journal.in_flight)} in flight${journal.limbo > 0 ? `, ${count(journal.limbo)} in limbo` : ""}, ${bytes(journal.bytes)}</small><//>
    <${Fact} name="Dirty keys"><b class="big">${count(journal.dirty)}</b><small>${journal.dirty > 0 ? `oldest ${duration(journal.oldest_dirty_ms)}` : "nothing waits for repair"}</small><//>
    <${Fact} name="Suspect tables"><b class="big">${count(journal.suspect_tables)}</b>${journal.suspect_tables > 0 ? html`<a href="#/tables"><${Badge} kind="warn">not verified<//></a>` : html`<small>none</small>`}<//>
    <${Fact} name="Discrepancies"><b class="big">${count(shadow.unacknowledged)}</b>${shadow.unacknowledged > 0 ? html`<a href="#/discrepancies"><${Badge} kind="bad">not acknowledged<//></a>` : html`<small>none unacknowledged</small>`}<//>
    <${Fact} name="Lease">${lease ? html`<${State} of=${lease.state}/><small>${renewed(lease)}</small>` : html`<${Badge}>none<//>`}<//>
    <${Fact} name="Sessions"><b class="big">${count(sessions.total)}</b><small>${count(sessions.adopted)} in this phase${sessions.without_mirror > 0 ? `, ${count(sessions.without_mirror)} without a mirror` : ""}${sessions.oldest_transaction_ms > 0 ? `, oldest transaction ${duration(sessions.oldest_transaction_ms)}` : ""}</small><//>
    <${Fact} name="Last flip">${status.last_flip ? html`<b class="big">${duration(status.last_flip.pause_microseconds / 1000)}</b><small>longest wait of a client, ${ago(status.last_flip.at_unix_ms, now)}</small>` : html`<span class="muted">none yet</span>`}<//>
  </dl></section>`;
}

function Sync({ status }) {
  const { backfill, repair, verification, shadow } = status;
  const per = (n) => (n > 0 ? `${rate(n)} rows/s` : "");
  const decided = shadow.matched + shadow.mismatched;
  const { reruns } = shadow;
  return html`
  <${Card} title="Backfill" id="backfill" extra=${html`<${State} of=${backfill.state}/>`}>
    <p class="big-line"><b class="big">${rows_of(backfill.rows_copied, backfill.rows_estimated, backfill.state === "done")}</b></p>
    <${Bar} done=${backfill.state === "done" ? 1 : backfill.rows_copied} total=${backfill.state === "done" ? 1 : backfill.rows_estimated} label="Backfill"/>
    <small>${line(`${count(backfill.tables_done)} of ${count(backfill.tables_total)} tables`, per(backfill.rows_per_second), backfill.eta_seconds !== null && backfill.state !== "done" && `about ${duration(backfill.eta_seconds * 1000)} left`, backfill.throttle_reason && `throttled: ${words(backfill.throttle_reason)}`)}</small><//>
  <${Card} title="Verification" id="verification" extra=${verification.running ? html`<${State} of="running"/>` : verification.tables_different > 0 ? html`<${State} of="different"/>` : null}>
    <p class="big-line"><b class="big">${count(verification.tables_equal)}</b> of ${count(verification.tables_total)} tables equal</p>
    <${Bar} done=${verification.tables_equal} total=${verification.tables_total} label="Tables verified equal"/>
    <small>${count(verification.tables_different)} differ</small><//>
  <${Card} title="Repair" id="repair" extra=${html`<${State} of=${repair.running ? "running" : "idle"}/>`}>
    <p class="big-line"><b class="big">${count(status.journal.dirty)}</b> dirty keys, ${count(repair.repaired)} repaired</p>
    <small>${line(`${rate(repair.keys_per_second)} keys/s`, status.journal.dirty > 0 && repair.eta_seconds !== null && `about ${duration(repair.eta_seconds * 1000)} left`, repair.throttle_reason && `throttled: ${words(repair.throttle_reason)}`)}</small>
    ${repair.last_error && html`<p class="note">${repair.last_error}</p>`}<//>
  <${Card} title="Shadow reads" id="shadow" extra=${html`<${Badge} kind=${shadow.active ? "run" : "off"}>${shadow.active ? "comparing" : "off"}<//>`}>
    <p class="big-line"><b class="big">${compact(shadow.matched)}</b> matched of ${compact(decided)}</p>
    <${Bar} done=${shadow.matched} total=${decided} label="Shadow reads that matched"/>
    <small>${count(shadow.confirmed)} confirmed, ${count(shadow.raced)} raced, ${count(shadow.pending)} pending; share ${Math.round(shadow.share * 100)} %</small>
    ${reruns.agreed + reruns.disagreed > 0 && html`<small>run again: the primary disagrees with itself in ${(100 * reruns.disagreed / (reruns.agreed + reruns.disagreed)).toFixed(1)} %, ${plural(reruns.slower, "statement")} slower on the target</small>`}<//>`;
}
