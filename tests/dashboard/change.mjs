// context.from -> context.to: dry run, wrong word refused, then the right one; the page shows the new phase.
import { scenario } from "./browser.mjs";

await scenario(async ({ page, context, assert, signIn, shot, until }) => {
  await signIn("operator");
  const sent = [];
  page.on("request", (request) => { if (request.method() === "POST" && request.url().endsWith("/transitions")) sent.push(request.postDataJSON()); });
  const verb = context.back ? "Roll back" : "Advance";
  const name = context.to.replaceAll("_", " ");
  await page.getByRole("button", { name: `${verb} to ${name}` }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("would pass").waitFor();
  assert.deepEqual(sent.map((body) => [body.dry_run, body.from, body.to]), [[true, context.from, context.to]]);
  const confirm = dialog.getByRole("button", { name: `${verb} to ${name}` });
  await dialog.getByLabel("Reason").fill("a test of the dashboard");
  await dialog.getByLabel(/^Type/).fill(context.to.toLowerCase());
  await confirm.click();
  await dialog.getByText(`Type ${context.to} exactly`).waitFor();
  await shot(`refused-word-${context.to}`);
  await dialog.getByLabel(/^Type/).fill(context.to);
  await dialog.getByLabel("Reason").fill(" ");
  await confirm.click();
  await dialog.getByText("A reason is needed").waitFor();
  assert.equal(sent.length, 1, "nothing but the dry run was sent");
  await dialog.getByLabel("Reason").fill("a test of the dashboard");
  await confirm.click();
  await dialog.waitFor({ state: "detached" });
  await until(async () => (await page.locator('[aria-current="step"]').innerText()).includes(name), `the phase becomes ${name}`);
  await page.getByText(/Earlier transitions/).click();
  await page.getByText("a test of the dashboard").first().waitFor();
  await shot(`phase-${context.to}`);
  assert.deepEqual(sent.slice(1), [{ from: context.from, to: context.to, reason: "a test of the dashboard" }]);
});
