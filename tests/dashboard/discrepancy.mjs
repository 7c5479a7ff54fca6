// Drills down to the cells, prints what the page shows as JSON, and acknowledges if context.acknowledge.
import { scenario } from "./browser.mjs";

await scenario(async ({ page, context, assert, signIn, go, shot, until }) => {
  await signIn("operator");
  await go("Discrepancies");
  await page.getByRole("table", { name: "Discrepancies by fingerprint" }).waitFor();
  await shot(`discrepancies-${context.name}`);
  await page.getByRole("link", { name: context.link }).click();
  const diff = page.locator("table.diff").first();
  await diff.waitFor();
  await shot(`discrepancy-${context.name}`);
  const shown = await diff.evaluate((table) => ({
    columns: [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent),
    rows: [...table.tBodies].flatMap((body) => [...body.rows].map((row) => ({ side: row.className.trim(), head: row.cells[0].textContent.trim(),
      cells: [...row.cells].slice(1).map((cell) => ({ text: (cell.querySelector(".cell, .redacted, .null") ?? cell).textContent, differs: cell.dataset.differs === "yes",
        marked: cell.textContent.includes("≠") && cell.textContent.includes("differs:") })) }))),
    hidden: document.body.innerText.includes("A redacted cell"),
  }));
  if (context.acknowledge) {
    await page.getByLabel("Note").fill(context.acknowledge);
    await page.getByRole("button", { name: "Acknowledge" }).click();
    await page.getByText("by operator").waitFor();
    await shot("acknowledged");
    await go("Discrepancies");
    await until(async () => (await page.getByRole("link", { name: context.link }).count()) === 0, "it is no longer among the unacknowledged");
    await page.getByLabel("Show").selectOption("known");
    await page.getByText(context.acknowledge).waitFor();
  }
  assert.ok(shown.rows.length);
  console.log(JSON.stringify(shown));
});
