// What can be changed while Banyan runs.
import { useState } from "./vendor/preact-hooks.js";
import { send } from "./api.js";
import { count, moment } from "./format.js";
import { useLive, useResource } from "./live.js";
import { Badge, Button, Card, Dialog, Fact, Problem, forbidden, html, session, useAction } from "./ui.js";

export function Settings() {
  const { status } = useLive();
  return html`<div class="grid"><${Shadow} shadow=${status.shadow}/><${Reload}/><${Capture}/>
    <${Card} title="About" id="about"><dl class="facts compact"><${Fact} name="Version">${status.version}<//><${Fact} name="Started">${moment(status.started_unix_ms)}<//><${Fact} name="Epoch">${count(status.epoch)}<//>
      <${Fact} name="You are">${session.anonymous ? "without a token (may look)" : session.role}<//><${Fact} name="Catalogue">${status.catalog.loaded ? `version ${status.catalog.version}: ${count(status.catalog.captured)} of ${count(status.catalog.tables)} tables captured` : status.catalog.error || "not loaded: nothing is mirrored"}<//>
      <${Fact} name="If the mirror fails">${status.breaker.on_mirror_failure}<//></dl><//></div>`;
}

function Shadow({ shadow }) {
  const [share, setShare] = useState(null);
  const action = useAction();
  const why = forbidden("operator");
  const now = Math.round(shadow.share * 1000) / 10;
  const submit = (event) => {
    event.preventDefault();
    const percent = Number(event.target.elements.share.value);
    if (why || action.busy) return;
    action.run(async () => {
      if (event.target.elements.share.value === "" || !(percent >= 0 && percent <= 100)) throw new Error("The share is a number from 0 to 100.");
      await send("PATCH", "/shadow", { share: percent / 100 });
      setShare(null);
      return `The share is ${percent} %.`;
    });
  };
  return html`<${Card} title="Shadow reads" id="shadow" extra=${html`<${Badge} kind=${shadow.active ? "run" : "off"}>${shadow.active ? "comparing" : "off in this phase"}<//>`}>
    <form class="inline" onSubmit=${submit} noValidate><label for="share">Share of reads that are compared, in percent</label>
      <input id="share" name="share" type="number" min="0" max="100" step="any" value=${share ?? now} onInput=${(event) => setShare(event.target.value)}/>
      <button class="primary" aria-disabled=${why || action.busy ? "true" : undefined} aria-describedby="share-why">Set</button></form>
    <p class="note" id="share-why">${why ? `Not possible: ${why}.` : "Takes effect at once, and is kept across restarts."}</p><p role="status">${action.done}</p><${Problem} error=${action.error}/><//>`;
}

function Reload() {
  const action = useAction();
  const [result, setResult] = useState(null);
  return html`<${Card} title="Configuration" id="configuration"><p>Reads the configuration file again, as SIGHUP does.</p>
    <div class="actions"><${Button} kind="primary" why=${forbidden("operator")} busy=${action.busy} onClick=${() => action.run(async () => { setResult(null); setResult(await send("POST", "/config/reload")); return "Read."; })}>Reload<//><span role="status">${action.done}</span></div>
    <${Problem} error=${action.error}/>
    ${result && html`<p>${result.applied.length ? html`Applied: ${result.applied.map((key, at) => html`${at > 0 && ", "}<code>${key}</code>`)}` : "Nothing that applies at once has changed."}</p>
      ${result.restart.length > 0 && html`<p>Needs a restart:</p><ul>${result.restart.map((one) => html`<li><code>${one.key}</code> keeps ${String(one.keeps)}</li>`)}</ul>`}`}<//>`;
}

function Capture() {
  const { data, error, refresh } = useResource("/capture");
  const action = useAction();
  const [asked, setAsked] = useState(null);
  const why = forbidden("operator");
  const side = (name) => {
    const it = data[name];
    const installed = it.tables?.filter((table) => table.installed).length ?? 0;
    return html`<${Fact} name=${name}>${it.error ? html`<${Badge} kind="bad">unknown<//><small class="wrap">${it.error}</small>` : it.present ? html`<${Badge} kind="good">installed<//><small>${count(installed)} of ${count(it.tables.length)} tables</small>` : html`<${Badge}>not installed<//>`}<//>`;
  };
  const go = (method) => action.run(async () => {
    await send(method, "/capture");
    setAsked(null);
    await refresh();
    return method === "PUT" ? "Installed." : "Removed.";
  });
  return html`<${Card} title="Deep capture" id="capture"><p>Triggers of Banyan's own, on both sides, that see what RETURNING does not show.</p>
    <${Problem} error=${error}/>${data && html`<dl class="facts compact">${side("source")}${side("target")}</dl>`}
    <div class="actions"><${Button} why=${why} busy=${action.busy} onClick=${() => setAsked("PUT")}>Install<//><${Button} why=${why} busy=${action.busy} onClick=${() => setAsked("DELETE")}>Remove<//><span role="status">${action.done}</span></div>
    ${!asked && html`<${Problem} error=${action.error}/>`}
    ${asked && html`<${Dialog} title=${asked === "PUT" ? "Install deep capture" : "Remove deep capture"} onClose=${() => setAsked(null)}>
      <p>${asked === "PUT" ? "Creates triggers on every table of both databases; each takes a short lock on its table." : "Drops Banyan's triggers on both databases. What they alone could see makes tables suspect from then on."}</p>
      <${Problem} error=${action.error}/>
      <div class="actions"><button type="button" onClick=${() => setAsked(null)}>Cancel</button><${Button} kind=${asked === "PUT" ? "primary" : "danger"} busy=${action.busy} onClick=${() => go(asked)}>${asked === "PUT" ? "Install" : "Remove"}<//></div><//>`}<//>`;
}
