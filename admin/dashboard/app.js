// The frame: sign-in, navigation, theme, and how fresh everything is.
import { render } from "./vendor/preact.js";
import { useEffect, useRef, useState } from "./vendor/preact-hooks.js";
import { ApiError, get, role, token } from "./api.js";
import { ago, clock, words } from "./format.js";
import { changed, end, live, start, useClock, useLive } from "./live.js";
import { startMetrics, stopMetrics } from "./metrics.js";
import { Discrepancies, Discrepancy } from "./discrepancies.js";
import { Audit, Journal, Preflight, Sessions } from "./lists.js";
import { Overview } from "./overview.js";
import { Settings } from "./settings.js";
import { TablePage, Tables } from "./tables.js";
import { Button, Problem, State, html, session } from "./ui.js";

const pages = [
  ["overview", "Overview", Overview], ["discrepancies", "Discrepancies", Discrepancies], ["tables", "Tables", Tables],
  ["journal", "Journal", Journal], ["sessions", "Sessions", Sessions], ["preflight", "Preflight", Preflight],
  ["audit", "Audit", Audit], ["settings", "Settings", Settings],
];
const details = { discrepancies: Discrepancy, tables: TablePage };

function route() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const page = pages.find((one) => one[0] === name) ?? pages[0];
  let id = "";
  try {
    id = decodeURIComponent(rest.join("/"));
  } catch { /* a hand-made address */ }
  return { name: page[0], title: page[1], id, view: id && details[name] ? details[name] : page[2] };
}

function applyTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("banyan-theme", theme);
}

function Freshness() {
  const { mode, heard_unix_ms, error } = useLive();
  const now = useClock();
  const stale = mode === "stale" || (mode === "polling" && now - heard_unix_ms > 10_000);
  const text = mode === "connecting" ? "connecting" : stale ? `stale since ${clock(heard_unix_ms)}` : mode === "live" ? "live" : "live, polled";
  return html`<span class=${`fresh ${stale ? "bad" : mode === "connecting" ? "warn" : "good"}`} title=${error ? `${error}; last news ${ago(heard_unix_ms, now)}` : undefined}>
    <span class="dot" aria-hidden="true">${stale ? "✕" : mode === "connecting" ? "…" : "●"}</span><span role="status" id="freshness">${text}</span></span>`;
}

function SignIn({ refused, onDone }) {
  const [error, setError] = useState(refused);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const given = new FormData(event.target).get("token").trim();
    if (/[^\x21-\x7e]/.test(given)) {
      setError({ message: "A token has no blanks and no special characters." });
      return;
    }
    setBusy(true);
    token.set(given);
    try {
      onDone(await look());
    } catch (problem) {
      token.clear();
      setError(problem);
      setBusy(false);
    }
  };
  return html`<main class="sign-in"><form class="card" onSubmit=${submit}>
    <h1><img src="/icon.svg" alt="" width="32" height="32"/> Banyan</h1>
    <p>Sign in with a token of <code>[[admin.tokens]]</code>. It is kept in this tab alone and forgotten when the tab closes.</p>
    <label for="token">Token</label>
    <input id="token" name="token" type="password" required autocomplete="off" spellcheck="false" autofocus aria-describedby="sign-in-problem"/>
    <div id="sign-in-problem"><${Problem} error=${error}/></div>
    <button class="primary" aria-disabled=${busy ? "true" : undefined}>Sign in</button>
  </form></main>`;
}

/** Looks whether the API answers with what we have, and as whom. */
async function look() {
  await get("/status");
  let found = "viewer";
  let anonymous = false;
  if (token.get()) found = await role();
  else anonymous = true;
  return { role: found, anonymous };
}

function Frame({ onSignOut }) {
  const { status, refused, mode, heard_unix_ms } = useLive();
  const [now, setNow] = useState(route());
  const [theme, setTheme] = useState(document.documentElement.dataset.theme);
  const heading = useRef();
  const first = useRef(true);
  useEffect(() => {
    const moved = () => setNow(route());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  useEffect(() => {
    document.title = `${now.id || now.title} · Banyan`;
    if (!first.current) {
      heading.current?.focus();
      scrollTo(0, 0);
    }
    first.current = false;
  }, [now.name, now.id]);
  useEffect(() => { if (refused) onSignOut(refused); }, [refused]);
  const next = { auto: "dark", dark: "light", light: "auto" }[theme];
  const unacknowledged = status?.shadow?.unacknowledged ?? 0;
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); heading.current.focus(); }}>Skip to content</a>
    <header class="top">
      <span class="brand"><img src="/icon.svg" alt="" width="26" height="26"/>Banyan</span>
      ${status && html`<span class="now" role="status"><span class="sr-only">Phase </span><b>${words(status.phase)}</b>
        ${status.transition && html`<${State} of=${status.transition.state}/>`}
        ${status.state === "draining" && html`<${State} of="draining"/>`}</span>`}
      <span class="space"></span>
      <${Freshness}/>
      <span class="who">${session.anonymous ? "no token" : session.role}</span>
      <button type="button" class="quiet" onClick=${() => { applyTheme(next); setTheme(next); }} title=${`Switch to ${next}`}><span class="sr-only">Theme: </span>${{ auto: "◐ auto", dark: "● dark", light: "○ light" }[theme]}</button>
      <button type="button" class="quiet" onClick=${() => onSignOut(null)}>${session.anonymous ? "Sign in" : "Sign out"}</button>
    </header>
    <nav class="side" aria-label="Pages"><ul>${pages.map(([name, title]) => html`<li><a href=${`#/${name}`} aria-current=${now.name === name ? "page" : undefined}>${title}
      ${name === "discrepancies" && unacknowledged > 0 && html`<span class="pill">${unacknowledged > 999 ? "999+" : unacknowledged}<span class="sr-only"> unacknowledged</span></span>`}</a></li>`)}</ul></nav>
    <main id="main"><h1 tabindex="-1" ref=${heading}>${now.id ? html`<a class="back" href=${`#/${now.name}`}>${now.title}</a> <span class="sr-only">: </span><span class="id">${now.id}</span>` : now.title}</h1>
      ${mode === "stale" && html`<p class="problem" role="alert"><span class="icon" aria-hidden="true">✕</span>No news from Banyan since ${clock(heard_unix_ms)}: what is shown is old. Trying again.</p>`}
      ${status ? html`<${now.view} key=${`${now.name}/${now.id}`} id=${now.id}/>` : html`<p class="empty">Waiting for Banyan… ${live.error}</p>`}
    </main>`;
}

function App() {
  const [state, setState] = useState({ stage: "look", refused: null });
  const enter = (found) => {
    Object.assign(session, found);
    start();
    startMetrics();
    setState({ stage: "in", refused: null });
  };
  const leave = (refused) => {
    end();
    stopMetrics();
    token.clear();
    setState({ stage: "sign-in", refused });
    changed();
  };
  useEffect(() => {
    look().then(enter, (error) => leave(token.get() || !(error instanceof ApiError) || error.status !== 401 ? error : null));
  }, []);
  if (state.stage === "look") return html`<p class="boot">Loading Banyan…</p>`;
  if (state.stage === "sign-in") return html`<${SignIn} key=${String(state.refused)} refused=${state.refused} onDone=${enter}/>`;
  return html`<${Frame} onSignOut=${leave}/>`;
}

document.documentElement.dataset.theme = ["dark", "light"].find((name) => name === localStorage.getItem("banyan-theme")) ?? "auto";
const root = document.getElementById("app");
root.textContent = "";
render(html`<${App}/>`, root);
