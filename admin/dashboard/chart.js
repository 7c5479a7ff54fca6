// A small line chart over time: uPlot, in the page's colours. Beside another side's, the mirror's lines are dashed, and a p99
// is thin, so that they can be told apart without colours; the numbers are also in the heading, as text.
import { useEffect, useRef } from "./vendor/preact-hooks.js";
import uPlot from "./vendor/uplot.js";
import { compact, figure } from "./format.js";
import { history } from "./metrics.js";
import { html } from "./ui.js";

const shortest_s = 120;

/** Of the time axis: what is known, but two minutes at least. */
function span() {
  const end = history.times.at(-1) ?? Date.now() / 1000;
  return [Math.min(history.times[0] ?? end, end - shortest_s), end];
}

function colour(element, name) {
  element.className = `probe ${name}`;
  return getComputedStyle(element).color;
}

const dashed = (one, series) => one.side === "mirror" && series.some((other) => other.side !== "mirror");

function options(probe, width, height, series, unit, least) {
  const muted = colour(probe, "probe-muted");
  const grid = { stroke: colour(probe, "probe-grid"), width: 1 };
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const font = `${Math.round(rem * 0.78)}px system-ui, sans-serif`;
  return {
    width, height, legend: { show: false }, cursor: { show: false }, padding: [8, rem * 2, 0, 0],
    scales: { x: { time: true, range: span }, y: { range: (_, low, high) => [0, Math.max(least, (high ?? 1) * 1.15)] } },
    axes: [
      { stroke: muted, grid: { show: false }, ticks: { show: false }, font, size: rem * 1.8,
        values: (_, ticks) => ticks.map((tick) => new Date(tick * 1000).toLocaleTimeString("en-GB")), space: rem * 7 },
      { stroke: muted, grid, ticks: { show: false }, font, size: rem * (unit ? 4.5 : 3.6), space: rem * 2.4, values: (_, ticks) => ticks.map((n) => (n % 1 ? figure(n) : compact(n)) + unit) },
    ],
    series: [{}, ...series.map((one) => ({ label: one.label, stroke: colour(probe, `series-${one.side}`), width: one.thin ? 1 : 2,
      dash: dashed(one, series) ? [6, 4] : undefined, points: { show: false }, spanGaps: true }))],
  };
}

/** `least`: what the axis reaches at least. */
export function Chart({ title, note, series, unit = "", wide = false, least = 1 }) {
  const box = useRef();
  const probe = useRef();
  const plot = useRef();
  useEffect(() => {
    const make = () => {
      plot.current?.destroy();
      const width = box.current.clientWidth;
      if (width > 0) plot.current = new uPlot(options(probe.current, width, box.current.clientHeight || 150, series, unit, least), data(), box.current);
    };
    const data = () => [history.times, ...series.map((one) => history.series[one.name] ?? history.times.map(() => null))];
    make();
    const sizes = new ResizeObserver(make);
    sizes.observe(box.current);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", make);
    const theme = new MutationObserver(make);
    theme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    return () => {
      sizes.disconnect();
      theme.disconnect();
      dark.removeEventListener("change", make);
      plot.current?.destroy();
    };
  }, []);
  useEffect(() => {
    plot.current?.setData([history.times, ...series.map((one) => history.series[one.name] ?? history.times.map(() => null))]);
  }, [history.version]);
  return html`<figure class=${`chart ${wide ? "wide-chart" : ""}`}>
    <figcaption><strong>${title}</strong>
      <span class="legend">${series.map((one) => html`<span class="key"><i class=${`line series-${one.side} ${dashed(one, series) ? "dashed" : ""} ${one.thin ? "thin" : ""}`} aria-hidden="true"></i>
        ${one.label} <b class="number">${figure(history.latest[one.name])}${unit}</b></span>`)}</span></figcaption>
    <div class="plot" ref=${box} aria-hidden="true"></div><span ref=${probe} class="probe" aria-hidden="true"></span>
    ${note && html`<p class="note">${note}</p>`}
  </figure>`;
}
