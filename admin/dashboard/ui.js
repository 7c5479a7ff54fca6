// The pieces every page is made of. Text is always text: nothing here takes HTML.
import { h } from "./vendor/preact.js";
import { useEffect, useId, useRef, useState } from "./vendor/preact-hooks.js";
import htm from "./vendor/htm.js";
import { ranks } from "./api.js";
import { count, words } from "./format.js";

export const html = htm.bind(h);

/** Who looks: set at sign-in. */
export const session = { role: "viewer", anonymous: false };

/** Why this session may not do it, or "". */
export function forbidden(needed) {
  if (ranks[session.role] >= ranks[needed]) return "";
  return session.anonymous ? `needs a token with the role ${needed}; you look without one`
    : `needs the role ${needed}; your token has ${session.role}`;
}

const icons = { good: "✓", bad: "✕", warn: "!", wait: "…", off: "–", info: "i", run: "▶" };

/** A state as an icon and a word; the colour only repeats it. */
export const Badge = ({ kind = "off", children, title }) =>
  html`<span class=${`badge ${kind}`} title=${title}><span class="icon" aria-hidden="true">${icons[kind]}</span>${children}</span>`;

const kinds = {
  pass: "good", fail: "bad", inconclusive: "warn", done: "good", equal: "good", different: "bad", failed: "bad", running: "run", queued: "wait",
  stopped: "off", aborted: "bad", rejected: "bad", timed_out: "bad", checking: "run", draining: "run", switching: "run", pending: "wait",
  skipped: "off", closed: "good", open: "bad", half_open: "warn", held: "good", expired: "bad", lost: "bad", none: "off", paused: "warn",
  deep_capture: "good", row: "good", statement: "warn", suspect: "bad", not_mirrored: "bad", excluded: "off", block: "bad", warn: "warn",
  info: "info", ok: "good", copying: "run", waiting: "wait", serving: "good", idle: "off",
};
export const State = ({ of, title }) => html`<${Badge} kind=${kinds[of] ?? "off"} title=${title}>${words(of ?? "unknown")}<//>`;

/** A button that, if it cannot be used, stays reachable and says why. */
export function Button({ why, onClick, kind = "", busy, children, ...rest }) {
  const id = useId();
  const off = Boolean(why) || busy;
  return html`<span class="button-box"><button type="button" class=${kind} aria-disabled=${off ? "true" : undefined} aria-describedby=${why ? id : undefined}
      title=${why || undefined} onClick=${(event) => (off ? event.preventDefault() : onClick?.(event))} ...${rest}>${children}</button>
    ${why && html`<span id=${id} class="sr-only">Not possible: ${why}</span>`}</span>`;
}

export const Problem = ({ error }) => error && html`<p class="problem" role="alert"><span class="icon" aria-hidden="true">✕</span>${error.message ?? String(error)}</p>`;

export function Bar({ done, total, label }) {
  const share = total > 0 ? Math.min(1, done / total) : 0;
  return html`<progress class="bar" max="100" value=${Math.round(share * 100)} aria-label=${label}></progress>`;
}

export const Fact = ({ name, children }) => html`<div class="fact"><dt>${name}</dt><dd>${children}</dd></div>`;

export const Card = ({ title, extra, children, wide, id }) => html`<section class=${`card ${wide ? "wide" : ""}`} aria-labelledby=${id}>
  <header><h2 id=${id}>${title}</h2>${extra}</header>${children}</section>`;

/** A modal dialog: <dialog> traps the focus, closes on Escape and gives the focus back. */
export function Dialog({ title, onClose, children }) {
  const ref = useRef();
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    const dialog = ref.current;
    dialog.showModal();
    return () => {
      dialog.close();
      before?.focus?.();
    };
  }, []);
  return html`<dialog ref=${ref} aria-labelledby=${id} onCancel=${(event) => { event.preventDefault(); onClose(); }}>
    <header><h2 id=${id}>${title}</h2><button type="button" class="quiet" aria-label="Close" onClick=${onClose}>✕</button></header>
    <div class="dialog-body">${children}</div></dialog>`;
}

/** An action's state: run(work) keeps `busy` and `error`. */
export function useAction() {
  const [state, set] = useState({ busy: false, error: null, done: "" });
  const run = async (work) => {
    set({ busy: true, error: null, done: "" });
    try {
      set({ busy: false, error: null, done: (await work()) ?? "" });
    } catch (error) {
      set({ busy: false, error, done: "" });
    }
  };
  return { ...state, run };
}

const page_size = 50;
const plain = (v) => (typeof v === "string" ? v.toLowerCase() : v ?? -1);
const compare = (a, b) => (plain(a) < plain(b) ? -1 : plain(a) > plain(b) ? 1 : 0);

/**
 * A table that can be sorted, filtered by words and paged; it draws one page, however many rows there are.
 * columns: {name, title, value(row) to sort and filter by, cell(row), number, sortable}; key(row) tells rows apart.
 */
export function Table({ caption, columns, rows, keyOf, filter = true, sort: first, empty = "Nothing here.", tools }) {
  const [sort, setSort] = useState(first ?? { name: null, down: false });
  const [needle, setNeedle] = useState("");
  const [page, setPage] = useState(0);
  const id = useId();
  const valueOf = (column, row) => (column.value ? column.value(row) : row[column.name]);
  let shown = rows;
  if (needle) {
    const parts = needle.toLowerCase().split(/\s+/).filter(Boolean);
    shown = shown.filter((row) => {
      const all = columns.map((column) => String(valueOf(column, row) ?? "").toLowerCase()).join(" ");
      return parts.every((part) => all.includes(part));
    });
  }
  const column = columns.find((one) => one.name === sort.name);
  if (column) shown = [...shown].sort((a, b) => compare(valueOf(column, a), valueOf(column, b)) * (sort.down ? -1 : 1));
  const pages = Math.max(1, Math.ceil(shown.length / page_size));
  const now = Math.min(page, pages - 1);
  const part = shown.slice(now * page_size, (now + 1) * page_size);
  const turn = (name) => { setSort({ name, down: sort.name === name ? !sort.down : false }); setPage(0); };
  return html`<div class="table-box">
    <div class="tools">
      ${filter && html`<label class="filter" for=${id}>Filter <input id=${id} type="search" value=${needle} autocomplete="off" spellcheck="false"
        onInput=${(event) => { setNeedle(event.target.value); setPage(0); }}/></label>`}
      ${tools}
      ${(filter || pages > 1) && html`<span class="count" role="status">${shown.length === rows.length ? count(rows.length) : `${count(shown.length)} of ${count(rows.length)}`} ${rows.length === 1 ? "row" : "rows"}</span>`}
    </div>
    <div class="scroll" tabindex="0" role="region" aria-label=${caption}>
    ${rows.length > 0 && html`<table><caption class="sr-only">${caption}</caption>
      <thead><tr>${columns.map((one) => html`<th scope="col" class=${one.number ? "number" : ""}
        aria-sort=${sort.name === one.name ? (sort.down ? "descending" : "ascending") : undefined}>
        ${one.sortable === false ? one.title : html`<button type="button" class="sort" onClick=${() => turn(one.name)}>${one.title}<span aria-hidden="true">${sort.name === one.name ? (sort.down ? " ↓" : " ↑") : ""}</span></button>`}</th>`)}</tr></thead>
      <tbody>${part.map((row, index) => html`<tr key=${keyOf ? keyOf(row) : index}>${columns.map((one, at) => {
        const content = one.cell ? one.cell(row) : valueOf(one, row);
        return at === 0 ? html`<th scope="row" class=${one.number ? "number" : ""}>${content}</th>` : html`<td class=${one.number ? "number" : one.wrap ? "wrap" : one.nowrap ? "nowrap" : ""}>${content}</td>`;
      })}</tr>`)}</tbody>
    </table>`}
    ${part.length === 0 && html`<p class="empty">${rows.length === 0 ? empty : "No row matches the filter."}</p>`}
    </div>
    ${pages > 1 && html`<nav class="pages" aria-label=${`Pages of ${caption}`}>
      <${Button} why=${now === 0 ? "this is the first page" : ""} onClick=${() => setPage(0)}>First<//>
      <${Button} why=${now === 0 ? "this is the first page" : ""} onClick=${() => setPage(now - 1)}>Previous<//>
      <span>Page <b>${count(now + 1)}</b> of ${count(pages)}</span>
      <${Button} why=${now === pages - 1 ? "this is the last page" : ""} onClick=${() => setPage(now + 1)}>Next<//>
      <${Button} why=${now === pages - 1 ? "this is the last page" : ""} onClick=${() => setPage(pages - 1)}>Last<//>
    </nav>`}
  </div>`;
}
