// The table of times by statement, and a statement that is slower on the target down to its times. Prints them as JSON.
import { scenario } from "./browser.mjs";

await scenario(async ({ page, context, assert, signIn, go, shot }) => {
  await signIn("viewer");
  await go("Discrepancies");
  const table = page.getByRole("table", { name: "Time by statement, on each side" });
  await table.waitFor();
  const rows = await table.evaluate((it) => [...it.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim())));
  await shot("times");
  await table.getByRole("link", { name: "slower on the target" }).click();
  await page.getByText("both sides").first().waitFor();
  const card = page.locator("section.card", { has: page.getByRole("heading", { name: "Example 1" }) });
  const facts = await card.locator(".fact").evaluateAll((all) => Object.fromEntries(all.map((fact) => [fact.querySelector("dt").textContent, (fact.querySelector("dd b") ?? fact.querySelector("dd")).textContent])));
  assert.ok(page.url().endsWith(`/${context.fingerprint}`), page.url());
  await shot("slower");
  console.log(JSON.stringify({ rows, facts }));
});
