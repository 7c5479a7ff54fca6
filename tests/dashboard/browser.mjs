// What the scenarios stand on: a browser, the page signed in, and checks. A scenario is a function of
// {page, context, check, ...}; context is what the test wrote on standard input.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.BANYAN_DASHBOARD_NODE_MODULES}/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

export const pages = ["overview", "discrepancies", "tables", "journal", "sessions", "preflight", "audit", "settings"];
const shots = process.env.BANYAN_DASHBOARD_SHOTS;

export async function scenario(work, { width = 1280, height = 900, theme = "light" } = {}) {
  const context = JSON.parse(readFileSync(0, "utf8"));
  const browser = await chromium.launch({ executablePath: process.env.BANYAN_CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
  const problems = [];
  try {
    // axe-core must be evaluated in the page, which its policy forbids; only where it runs is the policy lifted.
    const page = await browser.newPage({ viewport: { width, height }, colorScheme: theme, bypassCSP: Boolean(context.axe) });
    page.setDefaultTimeout(20_000 * Number(process.env.BANYAN_SLOW ?? 1));
    page.on("pageerror", (error) => problems.push(`error: ${error.message}`));
    page.on("dialog", (dialog) => { problems.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
    page.on("console", (message) => {
      if (/Content.Security.Policy|Refused to/i.test(message.text())) problems.push(`policy: ${message.text()}`);
    });
    await work({ page, context, assert, browser, ...helpers(page, context) });
    assert.deepEqual(problems, []);
  } finally {
    await browser.close();
  }
}

function helpers(page, context) {
  return {
    async signIn(role = "admin") {
      await page.goto(context.url);
      await page.getByLabel("Token").fill(context.tokens[role]);
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
    },
    /** Follows a link of the navigation. */
    async go(name) {
      await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name }).click();
      await page.getByRole("heading", { level: 1, name }).waitFor();
    },
    async shot(name) {
      if (shots) await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
    },
    /** The serious and critical findings of axe-core. */
    async violations() {
      await page.evaluate(axe);
      const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      return found.violations.filter((one) => ["serious", "critical"].includes(one.impact))
        .map((one) => `${one.id}: ${one.nodes.map((node) => `${node.target} ${node.failureSummary}`).slice(0, 3).join("; ")}`);
    },
    async until(condition, what) {
      for (const end = Date.now() + 20_000 * Number(process.env.BANYAN_SLOW ?? 1); ;) {
        if (await condition()) return;
        assert.ok(Date.now() < end, what);
        await new Promise((done) => setTimeout(done, 100));
      }
    },
  };
}
