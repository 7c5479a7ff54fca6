// /metrics, read every two seconds, as rates and quantiles: what the charts show. Ten minutes are kept.
import { text } from "./api.js";
import { between, buckets, quantile } from "./histogram.js";
import { changed } from "./live.js";

const every_ms = 2000;
const most_points = 300;

export const history = { times: [], series: {}, latest: {}, error: null, version: 0 };
let timer = 0;
let before = null;

/** {'name{label="value"}': number} of the Prometheus text format. */
export function parse(body) {
  const values = {};
  for (const line of body.split("\n")) {
    if (!line || line.startsWith("#")) continue;
    const space = line.indexOf(" ", line.lastIndexOf("}") + 1);
    values[line.slice(0, space)] = Number(line.slice(space + 1).split(" ")[0]);
  }
  return values;
}

const total = (values, name, ...labels) => (labels.length ? labels : [null]).reduce((sum, label) =>
  sum + (values[label === null ? name : `${name}{${label}}`] ?? 0), 0);

// Each counter whose rate is shown.
const counters = {
  queries: (v) => total(v, "banyan_queries_total"),
  transactions: (v) => total(v, "banyan_transactions_total"),
  shadow_sent: (v) => total(v, "banyan_shadow_reads_sent_total"),
  rows_captured: (v) => total(v, "banyan_rows_captured_total"),
  rows_applied: (v) => total(v, "banyan_mirror_rows_applied_total"),
  reads: (v) => total(v, "banyan_statements_total", 'class="read"'),
  captured: (v) => total(v, "banyan_statements_total", 'class="captured"'),
  opaque: (v) => total(v, "banyan_statements_total", 'class="opaque"'),
  mirror_failed: (v) => total(v, "banyan_mirror_transactions_total", 'result="failed"'),
  waits: (v) => total(v, "banyan_mirror_waits_total", 'result="answered"', 'result="slow"'),
  wait_us: (v) => total(v, "banyan_mirror_wait_microseconds_total"),
};

// Each histogram of which p50 and p99 are shown, and how many of its units are a second.
const histograms = {
  source_ms: [1e3, "banyan_server_response_seconds", { side: "source" }],
  target_ms: [1e3, "banyan_server_response_seconds", { side: "target" }],
  overhead_us: [1e6, "banyan_overhead_seconds"],
};

/** The rates and quantiles between two readings; null where nothing can be said (a restart, nothing was counted). */
export function rates(from, to, seconds) {
  const out = {};
  const same_process = from.banyan_start_time_seconds === to.banyan_start_time_seconds;
  const delta = {};
  for (const [name, read] of Object.entries(counters)) {
    const difference = read(to) - read(from);
    delta[name] = difference;
    out[name] = !same_process || difference < 0 || seconds <= 0 ? null : difference / seconds;
  }
  out.mirror_wait_ms = same_process && delta.waits > 0 && delta.wait_us >= 0 ? delta.wait_us / delta.waits / 1000 : null;
  for (const [name, [units, metric, labels]] of Object.entries(histograms)) {
    const counted = same_process ? between(buckets(from, metric, labels), buckets(to, metric, labels)) : null;
    for (const percent of [50, 99]) {
      const value = quantile(percent / 100, counted);
      out[`${name}_p${percent}`] = value === null ? null : value * units;
    }
  }
  return out;
}

async function read() {
  if (document.hidden) return;
  try {
    const values = parse(await text("/metrics"));
    const now = Date.now();
    if (before) {
      const row = rates(before.values, values, (now - before.at) / 1000);
      history.times.push(now / 1000);
      for (const [name, number] of Object.entries(row)) (history.series[name] ??= []).push(number);
      if (history.times.length > most_points) {
        history.times.shift();
        Object.values(history.series).forEach((numbers) => numbers.shift());
      }
      history.latest = row;
    }
    before = { values, at: now };
    history.error = null;
  } catch (error) {
    history.error = error;
  }
  history.version += 1;
  changed();
}

export function startMetrics() {
  stopMetrics();
  read();
  timer = setInterval(read, every_ms);
}

export function stopMetrics() {
  clearInterval(timer);
  before = null;
  Object.assign(history, { times: [], series: {}, latest: {}, error: null });
}
