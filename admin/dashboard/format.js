// Numbers and times for people. Unknown is always a dash.
const none = "–";
const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (n) => (n === null || n === undefined ? none : whole.format(n));
export const compact = (n) => (n === null || n === undefined ? none : Math.abs(n) < 10_000 ? whole.format(Math.round(n)) : short.format(n));
/** With as many digits as a small number needs. */
export const figure = (n) => (n === null || n === undefined ? none : n >= 10 ? compact(n) : n.toFixed(n > 0 && n < 1 ? 2 : 1));
export const rate = (n) => (n === null || n === undefined ? none : n > 0 && n < 10 ? n.toFixed(1) : compact(n));

/** What there is to say, in a line. */
export const line = (...parts) => parts.filter(Boolean).join(" · ");

export function duration(ms) {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return none;
  const s = Math.max(0, ms) / 1000;
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export const ago = (unixMs, now = Date.now()) => (unixMs ? `${duration(Math.floor(Math.max(0, now - unixMs) / 1000) * 1000).replace("0 ms", "0 s").replace(".0 s", " s")} ago` : none);

export function clock(unixMs) {
  return unixMs ? new Date(unixMs).toLocaleTimeString("en-GB") : none;
}

export function moment(unixMs) {
  if (!unixMs) return none;
  const date = new Date(unixMs);
  const pad = (n) => String(n).padStart(2, "0");
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${clock(unixMs)}`;
}

/** The time alone if it is today. */
export const when = (unixMs) => (new Date(unixMs).toDateString() === new Date().toDateString() ? clock(unixMs) : moment(unixMs));

/** Rows so far, of those that the planner guessed, if the guess is worth telling. */
export const rows_of = (rows, estimated, done) => `${count(rows)}${!done && estimated > rows ? ` of about ${compact(estimated)}` : ""} rows`;

export const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
export const times = (n) => (n === 1 ? "once" : `${count(n)} times`);

export function bytes(n) {
  if (n === null || n === undefined) return none;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  for (; n >= 1000 && i < units.length - 1; ++i) n /= 1000;
  return `${i === 0 ? n : n.toFixed(1)} ${units[i]}`;
}

/** A JSON value in a line: a gate's value, an audit entry's before. */
export function value(v) {
  if (v === null || v === undefined) return none;
  return typeof v === "number" ? whole.format(v) : typeof v === "string" ? v
    : typeof v !== "object" || Array.isArray(v) ? JSON.stringify(v)
    : Object.entries(v).filter(([, one]) => one !== "" && one !== null).map(([name, one]) => `${words(name)}: ${value(one)}`).join(", ");
}

export const words = (name) => String(name ?? "").replaceAll("_", " ");
