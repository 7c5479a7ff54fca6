// Without a mouse: sign in, skip link, navigation, the dialog keeps the focus and gives it back.
import { scenario } from "./browser.mjs";

await scenario(async ({ page, context, assert, shot, until }) => {
  const focused = () => page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.name);
  const visible = () => page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle !== "none");
  const tabTo = async (text) => {
    for (let n = 0; n < 80; ++n) {
      await page.keyboard.press("Tab");
      if ((await focused()).startsWith(text)) return;
    }
    assert.fail(`Tab does not reach ${text}`);
  };
  await page.goto(context.url);
  await until(async () => (await focused()) === "token", "the token's field has the focus");
  await page.keyboard.type(context.tokens.admin);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "Skip to content");
  assert.ok(await visible());
  await page.keyboard.press("Enter");
  assert.equal(await focused(), "Overview");
  await tabTo("Advance");
  assert.ok(await visible());
  await shot("keyboard-focus");
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  await dialog.getByText(/would/).waitFor();
  for (let n = 0; n < 25; ++n) {
    await page.keyboard.press("Tab");
    assert.ok(await page.evaluate(() => document.activeElement === document.body || document.activeElement.closest("dialog") !== null), "the focus stays in the dialog");
  }
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  assert.match(await focused(), /^Advance/);
  for (const name of ["Discrepancies", "Tables", "Journal", "Sessions", "Preflight", "Audit", "Settings"]) {
    for (let n = 0; n < 80 && (await focused()) !== name; ++n) await page.keyboard.press(await page.evaluate(() => document.activeElement.tagName) === "H1" ? "Shift+Tab" : "Shift+Tab");
    assert.ok((await focused()).startsWith(name), `Shift+Tab reaches ${name}`);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name }).waitFor();
    await until(async () => (await focused()) === name, "the heading of the new page has the focus");
  }
});
