// Names that are HTML are shown as text, everywhere, and nothing of them comes to life.
import { scenario } from "./browser.mjs";

await scenario(async ({ page, context, assert, signIn, go, shot }) => {
  await signIn();
  for (const [name, text] of [["Tables", context.table], ["Sessions", context.application], ["Discrepancies", context.table]]) {
    await go(name);
    await page.getByText(text).first().waitFor();
    assert.equal(await page.locator("main script, main img, main iframe").count(), 0);
    await shot(`hostile-${name.toLowerCase()}`);
  }
  await go("Tables");
  await page.getByRole("link", { name: context.table }).click();
  await page.getByRole("heading", { level: 1, name: context.table }).waitFor();
  await page.getByText(context.column).first().waitFor();
  assert.equal(await page.evaluate(() => window.hostile), undefined);
  await shot("hostile-table");
});
