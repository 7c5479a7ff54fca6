// A transition that waits: what for, its steps and log, and Cancel.
import { scenario } from "./browser.mjs";

await scenario(async ({ page, context, assert, signIn, shot, until }) => {
  await signIn("operator");
  await page.getByRole("button", { name: "Advance to DUAL WRITE" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("would pass").waitFor();
  await dialog.getByLabel("Reason").fill("to be cancelled");
  await dialog.getByLabel(/^Type/).fill("DUAL_WRITE");
  await dialog.getByRole("button", { name: "Advance to DUAL WRITE" }).click();
  const running = page.getByRole("region", { name: /t-\d+: INITIAL → DUAL WRITE/ });
  await running.getByText(/Waiting for/).waitFor();
  await running.getByText(/aborts in/).waitFor();
  assert.ok((await running.getByRole("log").innerText()).length > 0);
  assert.match(await page.getByRole("button", { name: /^Advance/ }).getAttribute("title"), /under way/);
  await shot("running");
  await running.getByRole("button", { name: "Cancel" }).click();
  await running.waitFor({ state: "detached" });
  await page.getByText(/Earlier transitions/).click();
  await page.locator("details.transition").first().getByText("aborted").waitFor();
  await until(async () => (await page.locator('[aria-current="step"]').innerText()).includes("INITIAL"), "the phase is INITIAL");
  await shot("cancelled");
  assert.ok(context.url);
});
