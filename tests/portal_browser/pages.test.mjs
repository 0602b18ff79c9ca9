// Every page, in both themes, narrow and wide: nothing for axe to say, nothing beside its edge.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { axe, browser, gateway, logIn, receiver, watched } from "./support.mjs";

const FIRST_VIEW = 60 * 1024;
const SHOTS = process.env.SCREENSHOTS;

let sz, hooks, chromium, key, pages;

before(async () => {
  [sz, hooks, chromium] = await Promise.all([gateway(), receiver(), browser()]);
  key = (await sz.ask("POST", "/v1/tenants", { body: { id: "acme", name: "Acme Ltd" } })).api_key;
  await sz.ask("POST", "/v1/tenants", { body: { id: "empty", name: "Nothing yet" } });
  const hook = (path, more = {}) =>
    sz.ask("POST", "/v1/webhooks", { tenant: "acme", body: { url: hooks.url + path, events: ["*"], ...more } });
  hooks.answers.set("/crm", (_, response) =>
    response.writeHead(500, { "content-type": "text/html", server: "nginx" }).end("<h1>Internal Server Error</h1>"),
  );
  hooks.answers.set("/gone", 404);
  const orders = await hook("/orders", { description: "Order status", headers: { "X-Team": "blue" } });
  await hook("/crm", { description: "Two-way messages", events: ["message.failed", "message.inbound"] });
  await hook("/gone", { description: "The old billing", events: ["message.blocked"] });
  await hook("/later", { enabled: false });
  const types = ["sent", "delivered", "read", "sent", "failed", "delivered", "inbound", "blocked", "delivered"];
  for (const [nth, type] of types.entries()) {
    await sz.event("acme", `message.${type}`, { id: `msg_${nth}`, text: "Your code is 4711", price: 0.0075 });
  }
  const rows = await sz.ended("acme", types.length);
  const failed = rows.find((row) => row.status === "failed");
  const job = await sz.ask("POST", "/v1/replays", { tenant: "acme", body: { dry_run: true } });
  await sz.ask("POST", "/v1/signing-secret/rotate", { tenant: "acme", body: { overlap: "24h" } });
  const of = (path) => `/portal/t/acme${path}`;
  pages = [
    ["login", "/portal/login", null],
    ["overview", of("/")],
    ["overview-of-nobody", "/portal/t/empty/", sz.key],
    ["deliveries", of("/deliveries")],
    ["deliveries-filtered", of("/deliveries?status=failed,retrying&code=5xx")],
    ["deliveries-wrong", of("/deliveries?q=colour:red")],
    ["deliveries-none", of("/deliveries?status=canceled")],
    ["delivery", of(`/deliveries/${failed.id}`)],
    ["webhooks", of("/webhooks")],
    ["webhook", of(`/webhooks/${orders.id}`)],
    ["webhook-new", of("/webhooks/new")],
    ["events", of("/events")],
    ["event", of(`/events/${failed.event_id}`)],
    ["live", of("/live")],
    ["replays", of("/replays")],
    ["replay-new", of("/replays/new?status=failed")],
    ["replay", of(`/replays/${job.id}`)],
    ["verify", of("/verify")],
    ["keys", of("/keys")],
    ["audit", of("/audit")],
    ["audit-filtered", of("/audit?action=webhook.created&actor=operator")],
    ["audit-wrong", of("/audit?actor=nobody")],
    ["audit-none", of("/audit?action=backup.created")],
    ["missing", of("/deliveries/dlv_nothing")],
    ["tenants", "/portal/tenants", sz.key],
    ["audit-of-all", "/portal/audit", sz.key],
    ["system", "/portal/system", sz.key],
  ];
});

after(async () => {
  await chromium?.close();
  hooks?.stop();
  await sz?.stop();
});

for (const colorScheme of ["light", "dark"]) {
  for (const width of [320, 1440]) {
    test(`${colorScheme}, ${width} pixels`, async () => {
      const options = { colorScheme, viewport: { width, height: 900 }, reducedMotion: "reduce" };
      const { context, wrong } = await watched(chromium, sz.base, options);
      const out = await watched(chromium, sz.base, options);
      const operators = await watched(chromium, sz.base, options);
      const inside = await logIn(context, sz.base, key);
      const theirs = await logIn(operators.context, sz.base, sz.key);
      const bare = await out.context.newPage();
      for (const [name, path, who = key] of pages) {
        const page = who === null ? bare : who === key ? inside : theirs;
        const shown = await page.goto(sz.base + path);
        assert.equal(shown.status(), name === "missing" ? 404 : 200, name);
        if (name === "live") await page.getByText("Live: 0 attempts").waitFor();
        // What is folded away is looked at too.
        if (name !== "verify") {
          await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
        }
        assert.deepEqual(await axe(page), [], `${name}, ${colorScheme}, ${width}`);
        const beside = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(beside <= 0, `${name} is ${beside} pixels too wide at ${width}`);
        const main = ["overview", "deliveries", "delivery", "webhooks", "live", "webhook", "verify", "system", "keys", "audit", "replay"];
        if (SHOTS && main.includes(name)) {
          await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = false)));
          await page.screenshot({ path: `${SHOTS}/${name}-${colorScheme}-${width}.png` });
        }
      }
      assert.deepEqual([...wrong, ...out.wrong, ...operators.wrong], []);
      await Promise.all([context.close(), out.context.close(), operators.context.close()]);
    });
  }
}

test("the first view takes little", async () => {
  // Lists at their full length: a page has 50.
  const line = (nth) =>
    JSON.stringify({
      tenant: "acme",
      payload: { type: "message.sent", timestamp: "2026-11-23T04:20:00Z", data: { id: `msg_${nth}`, channel: "sms", recipient: "+15555550100" } },
    });
  const many = Array.from({ length: 60 }, (_, nth) => line(nth)).join("\n");
  await sz.ask("POST", "/v1/events", { body: many, type: "application/x-ndjson" });
  for (const path of ["/portal/t/acme/", "/portal/t/acme/deliveries", "/portal/t/acme/audit", "/portal/t/acme/events"]) {
    const { context } = await watched(chromium, sz.base);
    const page = await logIn(context, sz.base, key);
    await page.close();
    // With an empty cache: all that the first view loads.
    const fresh = await watched(chromium, sz.base, { storageState: await context.storageState() });
    const first = await fresh.context.newPage();
    const sizes = [];
    first.on("response", (response) => sizes.push(response.body().then((body) => body.length, () => 0)));
    await first.goto(sz.base + path, { waitUntil: "load" });
    const bytes = (await Promise.all(sizes.slice())).reduce((sum, size) => sum + size, 0);
    console.log(`first view of ${path}: ${bytes} bytes`);
    assert.ok(bytes > 5_000 && bytes <= FIRST_VIEW, `${path} takes ${bytes} bytes`);
    await Promise.all([context.close(), fresh.context.close()]);
  }
});

test("all of it can be reached and done with the keyboard", async () => {
  const { context } = await watched(chromium, sz.base);
  const page = await logIn(context, sz.base, key);
  await page.goto(`${sz.base}/portal/t/acme/deliveries?status=failed`);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
  await page.keyboard.press("Enter");
  const reached = async (what) => {
    for (let nth = 0; nth < 60; nth += 1) {
      await page.keyboard.press("Tab");
      const text = await page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.name);
      if (text === what || (what.endsWith(".") && text.startsWith(what))) return;
    }
    assert.fail(`${what} is not reached`);
  };
  await reached("message.");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Why it is not delivered" }).waitFor();
  await reached("Replay");
  await page.keyboard.press("Enter");
  await page.getByText("The delivery is being sent again").waitFor();
  await context.close();
});
