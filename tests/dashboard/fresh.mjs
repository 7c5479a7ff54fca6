// How fresh the page says it is: live by events, polled without that route, stale when Banyan is silent, and live again.
import { scenario } from "./browser.mjs";

await scenario(async ({ page, assert, signIn, until, shot }) => {
  const says = (text) => until(async () => (await page.locator("#freshness").innerText()).startsWith(text), `the page says ${text}`);
  await signIn();
  await says("live");
  const asked = [];
  page.on("request", (request) => asked.push(new URL(request.url()).pathname));
  await page.route("**/api/v1/events", (route) => route.fulfill({ status: 404, json: { type: "not-found", title: "There is nothing at this path." } }));
  await page.reload();
  await says("live, polled");
  await page.route("**/api/v1/status", (route) => route.abort());
  await says("stale since");
  await page.getByRole("alert").filter({ hasText: "No news from Banyan since" }).waitFor();
  assert.match(await page.getByRole("button", { name: /^Advance/ }).getAttribute("title"), /stale/);
  await shot("stale");
  await page.unroute("**/api/v1/status");
  await says("live, polled");
  assert.ok(asked.filter((path) => path === "/api/v1/status").length > 1);
  await page.route("**/api/v1/status", (route) => route.fulfill({ status: 401, json: { type: "token-unknown", title: "This token is not known." } }));
  await page.getByRole("alert").filter({ hasText: "The token was not accepted" }).waitFor();
  await page.getByLabel("Token").waitFor();
});
