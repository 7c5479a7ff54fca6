// Which row of one side belongs to which of the other, and which cells differ. Pure.

/** A redacted cell's {type, length, hash}, or null. */
export function redacted(cell) {
  const found = typeof cell === "string" && /^<(.+) (\d+) ([0-9a-f]{6})>$/.exec(cell);
  return found ? { type: found[1], length: Number(found[2]), hash: found[3] } : null;
}

const equal_cells = (a, b) => a.filter((cell, index) => cell === b[index]).length;

/**
 * [{primary: row|null, mirror: row|null, differs: [bool]}]. Rows that have most cells in common are a pair, the first
 * column deciding between equals; what is left over is a pair only if it is one row on each side.
 */
export function pair(only_on_primary, only_on_mirror) {
  const candidates = [];
  only_on_primary.forEach((primary, i) => only_on_mirror.forEach((mirror, j) => {
    const same = equal_cells(primary, mirror);
    if (same > 0) candidates.push({ i, j, score: same + (primary[0] === mirror[0] ? 0.5 : 0) });
  }));
  candidates.sort((a, b) => b.score - a.score || a.i - b.i || a.j - b.j);
  const mirror_of = new Map();
  const taken = new Set();
  for (const { i, j } of candidates) {
    if (!mirror_of.has(i) && !taken.has(j)) {
      mirror_of.set(i, j);
      taken.add(j);
    }
  }
  const left_i = only_on_primary.map((_, i) => i).filter((i) => !mirror_of.has(i));
  const left_j = only_on_mirror.map((_, j) => j).filter((j) => !taken.has(j));
  if (left_i.length === 1 && left_j.length === 1) {
    mirror_of.set(left_i[0], left_j.pop());
  }
  const pairs = only_on_primary.map((primary, i) => {
    const mirror = mirror_of.has(i) ? only_on_mirror[mirror_of.get(i)] : null;
    return { primary, mirror, differs: primary.map((cell, at) => mirror !== null && cell !== mirror[at]) };
  });
  return [...pairs, ...left_j.map((j) => ({ primary: null, mirror: only_on_mirror[j], differs: only_on_mirror[j].map(() => false) }))];
}
