// A shut gate: an operator is refused by the page and told why; an admin overrides it, with a reason.
import { scenario } from "./browser.mjs";

await scenario(async ({ page, assert, signIn, shot, until }) => {
  const sent = [];
  page.on("request", (request) => { if (request.method() === "POST" && request.url().endsWith("/transitions") && !request.postDataJSON().dry_run) sent.push(request.postDataJSON()); });
  const dialog = page.getByRole("dialog");
  const ask = async () => {
    await page.getByRole("button", { name: "Advance to SWITCHOVER" }).click();
    await dialog.getByText("would be rejected: 1 shut").waitFor();
    await dialog.getByRole("rowheader", { name: "shadow mismatches" }).waitFor();
    await dialog.getByLabel("Reason").fill("known, and repaired later");
    await dialog.getByLabel(/^Type/).fill("SWITCHOVER");
  };
  const go = () => dialog.getByRole("button", { name: "Advance to SWITCHOVER" }).click();
  await signIn("operator");
  await ask();
  await dialog.getByText("Not possible: needs the role admin; your token has operator.").waitFor();
  await dialog.getByLabel(/Override/).click({ force: true });
  assert.equal(await dialog.getByLabel(/Override/).isChecked(), false);
  await go();
  await dialog.getByText(/The gates are shut, and an override needs the role admin/).waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.getByRole("button", { name: "Sign out" }).click();
  await signIn("admin");
  await ask();
  await go();
  await dialog.getByText("Wait for them, or override them").waitFor();
  assert.deepEqual(sent, []);
  await dialog.getByLabel(/Override/).click();
  await shot("override");
  await go();
  await until(async () => (await page.locator('[aria-current="step"]').innerText()).includes("SWITCHOVER") && (await page.getByText(/is under way/).count()) === 0, "the phase becomes SWITCHOVER");
  await page.getByText(/^longest wait of a client, /).waitFor();
  assert.equal(sent.length, 1);
  assert.equal(sent[0].override_gates, true);
  await shot("switchover");
});
