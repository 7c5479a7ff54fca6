// Every page in both themes, from a small window to a wall: no serious finding of axe-core, nothing wider than the window.
import { pages, scenario } from "./browser.mjs";

await scenario(async ({ page, context, assert, signIn, shot, violations }) => {
  const found = [];
  await signIn();
  await page.waitForTimeout(context.settle_ms);
  const views = [...pages, `discrepancies/${context.fingerprint}`, `tables/${encodeURIComponent(context.table)}`];
  for (const theme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: theme });
    for (const view of views) {
      await page.evaluate((hash) => { location.hash = `#/${hash}`; }, view);
      await page.waitForFunction(() => document.querySelector("main h1") && !document.querySelector("main").innerText.includes("Loading…"));
      await page.waitForTimeout(300);
      found.push(...(await violations()).map((text) => `${theme} ${view}: ${text}`));
      await shot(`${theme}-1280-${view.split("/").slice(0, 2).join("-").replace(/%\w\w/g, "_")}`);
    }
  }
  for (const [width, height] of [[2560, 1440], [800, 900]]) {
    await page.setViewportSize({ width, height });
    for (const view of views) {
      await page.evaluate((hash) => { location.hash = `#/${hash}`; }, view);
      await page.waitForTimeout(300);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${view} is wider than ${width} px`);
      await shot(`dark-${width}-${view.split("/")[0]}${view.includes("/") ? "-one" : ""}`);
    }
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await background();
  await page.getByRole("button", { name: /Theme/ }).click();  // auto -> dark
  await page.getByRole("button", { name: /Theme/ }).click();  // dark -> light, though the system says dark
  assert.notEqual(await background(), dark);
  await page.evaluate(() => { location.hash = "#/overview"; });
  await page.getByRole("button", { name: "Advance" }).click();
  await page.getByRole("dialog").getByText(/would/).waitFor();
  found.push(...(await violations()).map((text) => `dialog: ${text}`));
  await shot("dialog");
  assert.deepEqual(found, []);
});
