// A wrong token is refused in words, a right one is kept for this tab only; five phases; a shut gate says why; a viewer
// sees why it may not act.
import { scenario } from "./browser.mjs";

await scenario(async ({ page, context, assert, signIn, shot }) => {
  await page.goto(context.url);
  await page.getByLabel("Token").fill("not-a-token");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").filter({ hasText: "The token was not accepted" }).waitFor();
  await shot("sign-in");
  await signIn("viewer");
  assert.equal(await page.evaluate(() => JSON.stringify(sessionStorage).includes("viewer-secret") && !JSON.stringify(localStorage).includes("viewer-secret") && document.cookie), "");
  const phases = await page.getByRole("list", { name: "Phases" }).getByRole("listitem").allInnerTexts();
  assert.deepEqual(phases.map((text) => text.match(/INITIAL|DUAL WRITE|DUAL READ|SWITCHOVER|COMPLETE/)[0]), ["INITIAL", "DUAL WRITE", "DUAL READ", "SWITCHOVER", "COMPLETE"]);
  assert.match(await page.locator('[aria-current="step"]').innerText(), /INITIAL/);
  const gate = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: "tables capturable" }) });
  await gate.waitFor();
  assert.match(await gate.innerText(), /fail/);
  assert.match(await gate.innerText(), /Give them a primary key/);
  const advance = page.getByRole("button", { name: "Advance" });
  assert.equal(await advance.getAttribute("aria-disabled"), "true");
  assert.match(await advance.getAttribute("title"), /role operator; your token has viewer/);
  await advance.click({ force: true });
  assert.equal(await page.getByRole("dialog").count(), 0);
  await shot("blocked-gate");
  await page.reload();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Token").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});
