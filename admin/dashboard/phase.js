// The phases, the gates between them, and the change from one to the next.
import { useEffect, useState } from "./vendor/preact-hooks.js";
import { send } from "./api.js";
import { clock, count, duration, moment, value, when, words } from "./format.js";
import { useClock, useLive, useResource } from "./live.js";
import { Badge, Button, Card, Dialog, Problem, State, forbidden, html, useAction } from "./ui.js";

export const phases = ["INITIAL", "DUAL_WRITE", "DUAL_READ", "SWITCHOVER", "COMPLETE"];
const about = {
  INITIAL: "A plain relay to the source",
  DUAL_WRITE: "Writes go to the source, then to the target",
  DUAL_READ: "Reads run on both sides and are compared",
  SWITCHOVER: "The target leads; the source is kept ready",
  COMPLETE: "The target alone; no way back",
};

export function Stepper({ status }) {
  const at = phases.indexOf(status.phase);
  const going = status.transition ? phases.indexOf(status.transition.to) : -1;
  return html`<ol class="stepper" aria-label="Phases">${phases.map((phase, index) => html`
    <li class=${index < at ? "past" : index === at ? "current" : index === going ? "going" : ""} aria-current=${index === at ? "step" : undefined}>
      <span class="mark" aria-hidden="true">${index < at ? "✓" : index + 1}</span>
      <span class="step"><b>${words(phase)}</b><small>${about[phase]}</small>
      ${index === at && html`<small class="tag">current${status.phase_since_unix_ms ? ` since ${when(status.phase_since_unix_ms)}` : ""}</small>`}
      ${index === going && html`<small class="tag">on the way</small>`}</span></li>`)}</ol>`;
}

/** Gates, those that are shut first, each with its reason and its numbers. */
export function Gates({ gates, caption }) {
  const order = { fail: 0, inconclusive: 1 };
  const shut = gates.filter((gate) => gate.verdict !== "pass").sort((a, b) => order[a.verdict] - order[b.verdict]);
  const open = gates.filter((gate) => gate.verdict === "pass");
  if (!gates.length) return html`<p class="empty">No gate: this step waits for nothing.</p>`;
  return html`${shut.length > 0 && html`<${GateTable} gates=${shut} caption=${`${caption}, shut`}/>`}
    ${open.length > 0 && html`<details class="open-gates"><summary>${count(open.length)} open: <span class="muted">${open.map((gate) => words(gate.name)).join(", ")}</span></summary><${GateTable} gates=${open} caption=${`${caption}, open`}/></details>`}`;
}

function GateTable({ gates, caption }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}><table class="gates"><caption class="sr-only">${caption}</caption>
    <thead><tr><th scope="col">Gate</th><th scope="col">Verdict</th><th scope="col" class="number">Value</th><th scope="col" class="number">Threshold</th>
      <th scope="col" class="number">Samples</th><th scope="col">Reason</th></tr></thead>
    <tbody>${gates.map((gate) => html`<tr key=${gate.name} class=${gate.verdict}><th scope="row">${words(gate.name)}</th><td><${State} of=${gate.verdict}/></td>
      <td class="number">${value(gate.value)}</td><td class="number">${value(gate.threshold)}</td>
      <td class="number">${gate.samples === null ? "–" : `${count(gate.samples)}${gate.minimum_samples === null ? "" : `,\u00a0needs\u00a0${count(gate.minimum_samples)}`}`}</td>
      <td class="wrap">${gate.explanation || html`<span class="muted">–</span>`}${gate.verdict !== "pass" && !gate.overridable && html` <span class="muted">Cannot be overridden.</span>`}</td></tr>`)}</tbody></table></div>`;
}

export function PhaseCard({ status }) {
  const [asked, setAsked] = useState(null);
  const { mode } = useLive();
  const at = phases.indexOf(status.phase);
  const forward = phases[at + 1] ?? null;
  const backward = at > 0 && status.phase !== "COMPLETE" ? phases[at - 1] : null;
  const running = status.transition ? `the transition ${status.transition.id} is under way` : "";
  const why = forbidden("operator") || running || (mode === "stale" ? "what is shown here is stale" : "");
  return html`<${Card} title="Migration" id="migration" wide extra=${html`<div class="actions">
      <${Button} why=${why || (backward ? "" : status.phase === "COMPLETE" ? "COMPLETE cannot be taken back" : "this is the first phase")} onClick=${() => setAsked(backward)}>Roll back${backward && ` to ${words(backward)}`}<//>
      <${Button} kind="primary" why=${why || (forward ? "" : "this is the last phase")} onClick=${() => setAsked(forward)}>Advance${forward && ` to ${words(forward)}`}<//></div>`}>
    <${Stepper} status=${status}/>
    ${why && html`<p class="note">Changing the phase is not possible now: ${why}.</p>`}
    ${status.transition ? html`<${Running} transition=${status.transition}/>` : forward && html`<${NextGates} to=${forward}/>`}
    <${LastTransition} running=${status.transition}/>
    ${asked && html`<${ChangeDialog} status=${status} to=${asked} onClose=${() => setAsked(null)}/>`}
  <//>`;
}

function NextGates({ to }) {
  const { data, error } = useResource(`/gates?to=${to}`, null, 3000);
  const gates = data?.gates ?? [];
  const shut = gates.filter((gate) => gate.verdict !== "pass");
  return html`<section class="sub" aria-labelledby="gates-title"><h3 id="gates-title">Gates to ${words(to)}
      <span role="status">${data && (shut.length ? html`<${Badge} kind="bad">${shut.length} of ${gates.length} shut<//>` : html`<${Badge} kind="good">all ${gates.length} open<//>`)}</span></h3>
    <${Problem} error=${error}/>${data && html`<${Gates} gates=${gates} caption=${`Gates to ${words(to)}`}/>`}</section>`;
}

function Steps({ steps }) {
  return html`<ol class="steps">${steps.map((step) => html`<li class=${step.state ?? ""}>${step.state && html`<${State} of=${step.state}/>`}<b>${words(step.name)}</b><span>${step.what}</span></li>`)}</ol>`;
}

function Log({ log }) {
  return html`<ol class="log" role="log" aria-label="Log of the transition" tabindex="0">${log.map((line) => html`<li><time>${clock(line.at_unix_ms)}</time><b>${words(line.step)}</b><span>${line.message}</span></li>`)}</ol>`;
}

function Blocked({ sessions }) {
  return sessions.length > 0 && html`<div class="sub"><h4>Sessions in the way</h4><ul>${sessions.map((one) => html`<li><b>${one.user}</b> ${one.application} ${one.client}: ${one.things.join(", ")}${one.ended ? " (ended)" : ""}</li>`)}</ul></div>`;
}

function Running({ transition }) {
  const now = useClock();
  const action = useAction();
  const left = transition.deadline_unix_ms - now;
  const why = forbidden("operator") || (transition.cancellable ? "" : "it can only go forward now");
  return html`<section class="sub running" aria-labelledby="running-title">
    <h3 id="running-title">${transition.id}: ${words(transition.from)} → ${words(transition.to)} <span role="status"><${State} of=${transition.state}/></span>
      <span class="space"></span><span class="number">${left > 0 ? `aborts in ${duration(left)}` : "deadline passed"}</span>
      <${Button} kind="danger" busy=${action.busy} why=${why} onClick=${() => action.run(() => send("DELETE", `/transitions/${encodeURIComponent(transition.id)}`))}>Cancel<//></h3>
    ${transition.waiting_for && html`<p role="status">Waiting for ${transition.waiting_for}</p>`}
    <${Problem} error=${action.error}/><${Blocked} sessions=${transition.blocked_sessions ?? []}/>
    <${Steps} steps=${transition.steps}/><${Log} log=${transition.log}/></section>`;
}

function LastTransition({ running }) {
  const { data, error } = useResource("/transitions", "transitions");
  const all = (data?.transitions ?? []).filter((one) => one.id !== running?.id);
  if (!all.length) return html`<${Problem} error=${error}/>`;
  return html`<details class="sub"><summary>Earlier transitions <span class="muted">(${all.length}; last: ${words(all[0].from)} → ${words(all[0].to)}</span> <${State} of=${all[0].state}/><span class="muted">)</span></summary>
    ${all.slice(0, 10).map((one) => html`<details class="transition" key=${one.id}><summary><b>${one.id}</b> ${words(one.from)} → ${words(one.to)} <${State} of=${one.state}/>${" "}
      <span class="muted">${moment(one.created_unix_ms)} by ${one.actor}: ${one.reason}</span></summary>
      ${one.error && html`<p class="problem">${one.error}</p>`}
      ${one.pause_microseconds !== null && html`<p>Longest wait of a client: <b>${duration(one.pause_microseconds / 1000)}</b></p>`}
      <${Blocked} sessions=${one.blocked_sessions ?? []}/><${Steps} steps=${one.steps}/><${Log} log=${one.log}/></details>`)}</details>`;
}

/** The plan first, by a dry run; then a reason and the phase's name, typed. */
function ChangeDialog({ status, to, onClose }) {
  const [from] = useState(status.phase);
  const [plan, setPlan] = useState(null);
  const [problems, setProblems] = useState({});
  const [override, setOverride] = useState(false);
  const action = useAction();
  const dry = useAction();
  const back = phases.indexOf(to) < phases.indexOf(from);
  const verb = back ? "Roll back" : "Advance";
  const tryIt = () => dry.run(async () => setPlan(await send("POST", "/transitions", { from, to, reason: "dry run of the dashboard", dry_run: true })));
  useEffect(() => { tryIt(); }, []);
  const shut = plan?.gates.filter((gate) => gate.verdict !== "pass") ?? [];
  const hard = shut.filter((gate) => !gate.overridable);
  const whyNoOverride = forbidden("admin") || (hard.length ? `${words(hard[0].name)} cannot be overridden` : "");
  const submit = (event) => {
    event.preventDefault();
    if (action.busy) return;
    const form = new FormData(event.target);
    const wrong = {};
    if (!form.get("reason").trim()) wrong.reason = "A reason is needed; it goes to the audit log.";
    if (form.get("confirmation").trim() !== to) wrong.confirmation = `That is not the phase's name. Type ${to} exactly.`;
    if (shut.length && !override) wrong.gates = whyNoOverride ? `The gates are shut, and an override ${whyNoOverride}.` : "The gates are shut. Wait for them, or override them.";
    setProblems(wrong);
    if (Object.keys(wrong).length) {
      const first = ["reason", "confirmation"].find((name) => wrong[name]);
      if (first) event.target.elements[first].focus();
      return;
    }
    const body = { from, to, reason: form.get("reason").trim() };
    if (override) body.override_gates = true;
    if (form.get("deadline")) body.deadline_ms = Number(form.get("deadline")) * 1000;
    if (form.get("blocked")) body.on_blocked_sessions = form.get("blocked");
    action.run(async () => {
      await send("POST", "/transitions", body);
      onClose();
    });
  };
  return html`<${Dialog} title=${`${verb}: ${words(from)} → ${words(to)}`} onClose=${onClose}>
    <section aria-labelledby="dry-title"><h3 id="dry-title">Dry run <span role="status">${dry.busy ? html`<${Badge} kind="wait">measuring<//>` : plan && (plan.would_pass
        ? html`<${Badge} kind="good">would pass<//>` : html`<${Badge} kind="bad">would be rejected: ${shut.length} shut<//>`)}</span>
      <span class="space"></span><${Button} kind="quiet" busy=${dry.busy} onClick=${tryIt}>Measure again<//></h3>
      <${Problem} error=${dry.error}/>
      ${plan && html`<${Gates} gates=${plan.gates} caption="Gates, measured now"/><details><summary>What will be done (${plan.steps.length} steps)</summary><${Steps} steps=${plan.steps}/></details>`}
    </section>
    <form onSubmit=${submit} noValidate>
      ${to === "COMPLETE" && html`<p class="problem"><span class="icon" aria-hidden="true">!</span>COMPLETE cannot be taken back: from then on the source falls behind.</p>`}
      ${shut.length > 0 && html`<fieldset><legend>Gates are shut</legend><label class="check"><input type="checkbox" checked=${override} aria-disabled=${whyNoOverride ? "true" : undefined}
          aria-describedby="override-why" onClick=${(event) => { if (whyNoOverride) event.preventDefault(); else { setOverride(event.target.checked); setProblems({}); } }}/>
          Override them; who, when and why is audited</label>
        <p class="note" id="override-why">${whyNoOverride && `Not possible: ${whyNoOverride}.`}</p>
        ${problems.gates && html`<p class="problem" role="alert">${problems.gates}</p>`}</fieldset>`}
      <label for="reason">Reason <span class="muted">(for the audit log)</span></label>
      <input id="reason" name="reason" autocomplete="off" aria-invalid=${problems.reason ? "true" : undefined} aria-describedby="reason-problem"/>
      <p class="field-problem" id="reason-problem" role="alert">${problems.reason}</p>
      <label for="confirmation">Type <code>${to}</code> to confirm</label>
      <input id="confirmation" name="confirmation" autocomplete="off" autocapitalize="off" spellcheck="false" aria-invalid=${problems.confirmation ? "true" : undefined} aria-describedby="confirmation-problem"/>
      <p class="field-problem" id="confirmation-problem" role="alert">${problems.confirmation}</p>
      <details><summary>Deadline and sessions in the way</summary><div class="pair"><div>
        <label for="deadline">Deadline in seconds</label><input id="deadline" name="deadline" type="number" min="1" max="86400" placeholder="as configured"/></div><div>
        <label for="blocked">Sessions that own what cannot be brought along</label>
        <select id="blocked" name="blocked"><option value="">as configured</option><option value="abort">abort the transition</option><option value="end">end those sessions (57P01)</option></select></div></div></details>
      <${Problem} error=${action.error}/>
      <div class="actions"><button type="button" onClick=${onClose}>Cancel</button><button class=${back || override ? "danger" : "primary"} aria-disabled=${action.busy ? "true" : undefined}>${verb} to ${words(to)}</button></div>
    </form><//>`;
}
