// The quantiles of histograms, without a browser.
import assert from "node:assert/strict";
import { between, buckets, quantile } from "../../admin/dashboard/histogram.js";

const values = {
  'a_bucket{side="source",le="0.1"}': 1, 'a_bucket{side="source",le="+Inf"}': 4, 'a_bucket{side="source",le="1e-05"}': 0,
  'a_bucket{side="target",le="0.1"}': 7, 'a_sum{side="source"}': 9, 'a_count{side="source"}': 4,
  'aa_bucket{le="0.5"}': 3, 'b_bucket{le="0.5"}': 2,
};
assert.deepEqual(buckets(values, "a", { side: "source" }), [[1e-5, 0], [0.1, 1], [Infinity, 4]]);
assert.deepEqual(buckets(values, "b"), [[0.5, 2]]);
assert.deepEqual(buckets(values, "c"), []);

const before = [[1, 5], [2, 5], [4, 6], [Infinity, 6]];
const after = [[1, 5], [2, 15], [4, 26], [Infinity, 27]];
const counted = between(before, after);
assert.deepEqual(counted, [[1, 0], [2, 10], [4, 20], [Infinity, 21]]);
assert.equal(quantile(0.5, counted), 2 + 2 * 0.5 / 10);  // half a value into the ten between 2 and 4
assert.equal(quantile(5 / 21, counted), 1.5);
assert.equal(quantile(10 / 21, counted), 2);
assert.equal(quantile(0.99, counted), 4);  // beyond the last bound
assert.equal(quantile(1, [[1, 0], [2, 3], [4, 3], [Infinity, 3]]), 2);  // not into empty buckets
assert.equal(quantile(0.5, [[1, 4], [Infinity, 4]]), 0.5);
assert.equal(quantile(0.5, between(after, after)), null);  // nothing was counted
assert.equal(quantile(0.5, []), null);
assert.equal(quantile(0.5, null), null);
assert.equal(between(after, before), null);  // another process, which has counted less
assert.equal(between([[1, 9], [2, 9]], [[1, 4], [2, 20]]), null);  // in one bucket only
assert.equal(between([[1, 9], [2, 20]], [[1, 15], [2, 20]]), null);  // more at most 1 than at most 2
assert.equal(between([[1, 1]], [[2, 1]]), null);
assert.equal(between([], [[1, 1]]), null);
