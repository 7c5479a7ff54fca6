// Prometheus' histograms. Pure: no page, no network.

/** [[upper bound, how many were at most that], ...], ascending, of a histogram's series with these labels ({side: "source"}). */
export function buckets(values, name, labels = {}) {
  const found = [];
  for (const [series, count] of Object.entries(values)) {
    if (!series.startsWith(`${name}_bucket{`)) continue;
    const has = Object.fromEntries([...series.matchAll(/(\w+)="([^"]*)"/g)].map(([, label, text]) => [label, text]));
    if (Object.entries(labels).every(([label, text]) => has[label] === text)) found.push([has.le === "+Inf" ? Infinity : Number(has.le), count]);
  }
  return found.sort(([a], [b]) => a - b);
}

/** What came between two readings of one histogram; null if they are not of one process. */
export function between(from, to) {
  if (from.length !== to.length) return null;
  const delta = to.map(([bound, count], at) => [bound, count - from[at][1]]);
  return delta.every(([bound, count], at) => bound === from[at][0] && count >= (at ? delta[at - 1][1] : 0)) ? delta : null;
}

/** What a share of all values is at most, on a straight line within its bucket; null if there is none.
    Beyond the last bound nothing is known: it is that bound then, as with Prometheus' histogram_quantile. */
export function quantile(share, counts) {
  const all = counts?.at(-1)?.[1] ?? 0;
  if (!(all > 0)) return null;
  const rank = share * all;
  let low = 0;
  let below = 0;
  for (const [bound, count] of counts) {
    if (count >= rank && count > below) return bound === Infinity ? low : low + (bound - low) * (rank - below) / (count - below);
    low = bound;
    below = count;
  }
  return low;
}
