// The charts of response times and of Banyan's overhead: prints the last two readings of /metrics that the page got, and
// what it shows then, as JSON.
import { scenario } from "./browser.mjs";

await scenario(async ({ page, context, assert, signIn, shot, until }) => {
  const readings = [];
  await page.route("**/metrics", async (route) => {
    if (readings.length === context.readings) return route.abort();  // the page keeps what it has
    const answer = await route.fetch();
    readings.push(await answer.text());
    return route.fulfill({ response: answer, body: readings.at(-1) });
  });
  const aborted = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/metrics"));
  await signIn("viewer");
  await until(() => readings.length === context.readings, "the page reads /metrics");
  await aborted;
  const shown = {};
  for (const title of ["Response time", "Banyan's overhead"]) {
    const chart = page.locator("figure.chart", { has: page.getByText(title, { exact: true }) });
    const keys = chart.locator(".key");
    shown[title] = Object.fromEntries((await keys.allInnerTexts()).map((text) => /^(.*\S) (\S+ \S+)$/.exec(text.trim().replace(/\s+/g, " ")).slice(1)));
    // The lines are drawn: pixels of each line's colour.
    const colours = await keys.locator("i").evaluateAll((lines) => lines.map((line) => getComputedStyle(line).borderTopColor));
    const missing = await chart.locator("canvas").evaluate((canvas, wanted) => {
      const brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
      const rgb = (colour) => { brush.fillStyle = colour; brush.fillRect(0, 0, 1, 1); return [...brush.getImageData(0, 0, 1, 1).data].slice(0, 3); };
      const drawn = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      return wanted.filter((colour) => {
        const [red, green, blue] = rgb(colour);
        for (let at = 0; at < drawn.length; at += 4) {
          if (drawn[at + 3] > 200 && Math.abs(drawn[at] - red) + Math.abs(drawn[at + 1] - green) + Math.abs(drawn[at + 2] - blue) < 12) return false;
        }
        return true;
      });
    }, colours);
    assert.deepEqual(missing, [], `${title}: no line in ${missing}`);
  }
  await shot("latency");
  console.log(JSON.stringify({ readings: readings.slice(-2), shown }));
});
