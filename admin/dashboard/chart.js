// A small line chart over time: uPlot, in the page's colours. The second series is dashed, so that the two can be
// told apart without colours; the numbers are also in the heading, as text.
import { useEffect, useRef } from "./vendor/preact-hooks.js";
import uPlot from "./vendor/uplot.js";
import { compact } from "./format.js";
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

function options(probe, width, height, series, unit) {
  const muted = colour(probe, "probe-muted");
  const grid = { stroke: colour(probe, "probe-grid"), width: 1 };
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const font = `${Math.round(rem * 0.78)}px system-ui, sans-serif`;
  return {
    width, height, legend: { show: false }, cursor: { show: false }, padding: [8, rem * 2, 0, 0],
    scales: { x: { time: true, range: span }, y: { range: (_, low, high) => [0, Math.max(1, (high ?? 1) * 1.15)] } },
    axes: [
      { stroke: muted, grid: { show: false }, ticks: { show: false }, font, size: rem * 1.8,
        values: (_, ticks) => ticks.map((tick) => new Date(tick * 1000).toLocaleTimeString("en-GB")), space: rem * 7 },
      { stroke: muted, grid, ticks: { show: false }, font, size: rem * 3.6, space: rem * 2.4, values: (_, ticks) => ticks.map((n) => (n < 10 && n % 1 ? n.toFixed(1) : compact(n)) + unit) },
    ],
    series: [{}, ...series.map((one, index) => ({ label: one.label, stroke: colour(probe, `series-${one.side}`), width: 2,
      dash: index ? [6, 4] : undefined, points: { show: false }, spanGaps: true }))],
  };
}

export function Chart({ title, note, series, unit = "" }) {
  const box = useRef();
  const probe = useRef();
  const plot = useRef();
  useEffect(() => {
    const make = () => {
      plot.current?.destroy();
      const width = box.current.clientWidth;
      if (width > 0) plot.current = new uPlot(options(probe.current, width, box.current.clientHeight || 150, series, unit), data(), box.current);
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
  const now = (one) => {
    const number = history.latest[one.name];
    return number === null || number === undefined ? "–" : number < 10 ? number.toFixed(1) : compact(number);
  };
  return html`<figure class="chart">
    <figcaption><strong>${title}</strong>
      <span class="legend">${series.map((one, index) => html`<span class="key"><i class=${`line series-${one.side} ${index ? "dashed" : ""}`} aria-hidden="true"></i>
        ${one.label} <b class="number">${now(one)}${unit}</b></span>`)}</span></figcaption>
    <div class="plot" ref=${box} aria-hidden="true"></div><span ref=${probe} class="probe" aria-hidden="true"></span>
    ${note && html`<p class="note">${note}</p>`}
  </figure>`;
}
