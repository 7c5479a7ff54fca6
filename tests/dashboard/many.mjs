// 10,000 groups (the API's answer is replaced in the browser): one page is drawn, sorting, filter and pages work; and with none.
import { scenario } from "./browser.mjs";

await scenario(async ({ page, context, assert, signIn, go, shot }) => {
  const groups = Array.from({ length: 10_000 }, (_, n) => ({ fingerprint: `f${n}`, kind: n % 3 ? "rows" : "row_count", tables: [`public.t${n % 40}`], sql: `SELECT c${n} FROM t${n % 40} WHERE id = $1`, count: (n * 7919) % 10_007,
    first_seen_unix_ms: 1e12, last_seen_unix_ms: 1e12 + n * 1000, phase: "DUAL_READ", user: "app", acknowledged: n % 10 === 0, acknowledged_by: n % 10 ? "" : "alice", note: n % 10 ? "" : "known" }));
  let answer = { groups, unacknowledged: 9000, confirmed: 12_345, raced: 3, inconclusive: 0, dropped: 0, pending: 0 };
  await page.route("**/api/v1/discrepancies", (route) => route.fulfill({ json: answer }));
  await signIn();
  await go("Discrepancies");
  const table = page.getByRole("table", { name: "Discrepancies by fingerprint" });
  await table.waitFor();
  assert.ok((await table.getByRole("row").count()) <= 51);
  await page.getByText("9,000 rows").waitFor();
  await page.getByText("Page 1 of 180").waitFor();
  await page.getByRole("button", { name: "Count" }).click();
  await page.getByRole("button", { name: "Count" }).click();
  const counts = await table.locator("tbody tr td:nth-child(4)").allInnerTexts();
  const wanted = groups.filter((group) => !group.acknowledged).map((group) => group.count).sort((a, b) => b - a).slice(0, 50);
  assert.deepEqual(counts.map((text) => Number(text.replaceAll(",", ""))), wanted);
  assert.equal(await table.locator('th[aria-sort="descending"]').innerText().then((text) => text.replace(/\W/g, "")), "Count");
  await page.getByRole("button", { name: "Last", exact: true }).click();
  await page.getByText("Page 180 of 180").waitFor();
  await shot("discrepancies-10000");
  await page.getByLabel("Filter").fill("c9999 t39");
  await page.getByText("1 of 9,000").waitFor();
  assert.equal(await table.getByRole("row").count(), 2);
  answer = { groups: [], unacknowledged: 0, confirmed: 0, raced: 0, inconclusive: 0, dropped: 0, pending: 0 };
  await page.reload();
  await page.getByText("No discrepancy was found").waitFor();
  await shot("discrepancies-0");
  assert.ok(context.url);
});
