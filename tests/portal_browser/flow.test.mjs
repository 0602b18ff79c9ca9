// From the login to a replayed delivery, as somebody does it who has never been here.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, eventually, gateway, logIn, receiver, watched } from "./support.mjs";

let sz, hooks, chromium, context, wrong, key, page;

before(async () => {
  [sz, hooks, chromium] = await Promise.all([gateway(), receiver(), browser()]);
  key = (await sz.ask("POST", "/v1/tenants", { body: { id: "acme", name: "Acme Ltd" } })).api_key;
  ({ context, wrong } = await watched(chromium, sz.base));
});

after(async () => {
  await chromium?.close();
  hooks?.stop();
  await sz?.stop();
});

test("a wrong key is refused in words, and the right one lets in", async () => {
  page = await context.newPage();
  await page.goto(`${sz.base}/portal/t/acme/deliveries`);
  await page.getByLabel("API key").fill("szk_tenant_nobody");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("alert").getByText("unknown or was revoked").waitFor();
  await page.getByLabel("API key").fill(key);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { name: "Deliveries" }).waitFor();
  const [cookie] = await context.cookies();
  assert.equal(cookie.httpOnly, true);
  assert.equal(cookie.sameSite, "Lax");
  assert.equal(await page.evaluate(() => document.cookie), "");
});

test("a webhook is tried before it is saved", async () => {
  hooks.answers.set("/hook", 503);
  await page.getByRole("link", { name: "Webhooks", exact: true }).click();
  await page.getByRole("link", { name: "New webhook" }).click();
  await page.getByLabel("URL").fill(`${hooks.url}/hook`);
  await page.getByRole("button", { name: "Try it" }).click();
  await page.getByRole("heading", { name: "It does not work yet" }).waitFor();
  hooks.answers.set("/hook", 200);
  await page.getByRole("button", { name: "Try it" }).click();
  await page.getByRole("heading", { name: "It works" }).waitFor();
  assert.equal((await sz.ask("GET", "/v1/webhooks", { tenant: "acme" })).data.length, 0);
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("The webhook is saved").waitFor();
});

test("an attempt is seen as it is made", async () => {
  const live = await context.newPage();
  await live.goto(`${sz.base}/portal/t/acme/live`);
  await live.getByText("Live: 0 attempts").waitFor();
  await sz.event("acme", "message.sent");
  const row = live.locator("[data-rows] tbody tr").first();
  await row.getByText("delivered").waitFor();
  assert.match(await row.innerText(), /message\.sent/);
  await live.close();
});

test("an open list says that there is more, and its rows go on", async () => {
  hooks.answers.set("/hook", 500);
  await page.getByRole("link", { name: "Deliveries", exact: true }).click();
  await page.locator("tr[data-delivery]").first().waitFor();
  await eventually("the list says so", async () => {
    await sz.event("acme", "message.failed");
    return page.getByText(/more deliver/).isVisible();
  });
  await sz.ended("acme", 2);
  await page.getByRole("link", { name: "Show them" }).click();
  await page.locator("tr[data-delivery] .badge.bad").first().waitFor();
});

test("why a delivery failed is found by clicking, and it is replayed", async () => {
  await page.getByRole("link", { name: "Overview" }).click();
  await page.getByRole("link", { name: /Look at the newest/ }).first().click();
  await page.getByRole("heading", { name: "Why it is not delivered" }).waitFor();
  await page.getByText("the receiver answered 500").first().waitFor();
  assert.equal(await page.locator(".timeline > li").count(), 3);
  hooks.answers.set("/hook", 200);
  await page.getByRole("button", { name: "Replay" }).click();
  await page.getByText("The delivery is being sent again").waitFor();
  await eventually("it is delivered", async () => {
    await page.reload();
    return page.locator("h1 .badge.good").isVisible();
  });
  assert.equal(await page.locator(".timeline > li").count(), 4);
});

test("many are replayed: counted, confirmed, watched", async () => {
  hooks.answers.set("/hook", 500);
  for (let nth = 0; nth < 3; nth += 1) await sz.event("acme", "message.blocked");
  await sz.ended("acme", 4);
  hooks.answers.set("/hook", 200);
  await page.goto(`${sz.base}/portal/t/acme/deliveries?status=failed&event_type=message.blocked`);
  await page.getByRole("link", { name: "Replay all that match" }).click();
  await page.getByRole("button", { name: "Count" }).click();
  await page.getByRole("button", { name: "Send 3 again" }).click();
  await page.getByText("The replay has begun").waitFor();
  await eventually("all are delivered", async () => {
    const page = await sz.ask("GET", "/v1/deliveries?event_type=message.blocked", { tenant: "acme" });
    return page.data.every((one) => one.status === "delivered");
  });
  await page.locator("h1 .badge.good").waitFor();
});

test("the secret is rotated, and the old one signs as well", async () => {
  await page.getByRole("link", { name: "Keys" }).click();
  assert.equal(await page.getByText("whsec_").count(), 0, "it is not shown by itself");
  await page.getByRole("button", { name: "Show it" }).click();
  const before = await page.locator("#the-secret").innerText();
  await page.getByText("Rotate", { exact: true }).click();
  await page.getByRole("button", { name: "Make a new secret" }).click();
  const after = await page.locator("#the-secret").innerText();
  assert.notEqual(after, before);
  await page.getByText(before).waitFor();
  await page.getByRole("link", { name: "Keys" }).click();
  await page.getByText("An older secret signs as well").waitFor();
});

test("a signature is diagnosed with the mistake that was made", async () => {
  const { createHmac } = await import("node:crypto");
  await page.getByRole("button", { name: "Show it" }).click();
  const secret = await page.locator("#the-secret").innerText();
  const body = '{"type":"message.sent","data":{"id":"msg_1"}}';
  const sign = (key) => createHmac("sha256", key).update(body).digest("hex");
  await page.getByRole("link", { name: "Verify" }).click();
  for (const [signature, said] of [
    [sign(secret), "The signature is right"],
    [sign(Buffer.from(secret.slice(6), "base64")), "keyed with the decoded bytes"],
  ]) {
    await page.getByLabel(/^Signature/).fill(signature);
    await page.getByLabel(/^Body/).fill(body);
    await page.getByRole("button", { name: "Check" }).click();
    await page.getByText(said).waitFor();
  }
});

test("after a logout the session is nothing any more", async () => {
  const [cookie] = await context.cookies();
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  await context.addCookies([cookie]);
  await page.goto(`${sz.base}/portal/t/acme/`);
  await page.getByRole("heading", { name: "Log in" }).waitFor();
});

test("nothing went wrong on the way", () => assert.deepEqual(wrong, []));
