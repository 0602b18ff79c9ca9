// Script in every field that somebody else can fill: nothing of it runs, and the policy has nothing
// to stop, because it is text on every page.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, gateway, logIn, receiver, watched } from "./support.mjs";

const TRICKS = [
  "<script>alert(1)</script>",
  "</script><script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "\"><img src=x onerror=alert(1)>",
  "'><img src=x onerror=alert(1)>",
  "<svg onload=alert(1)>",
  "<svg><script>alert(1)</script></svg>",
  "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
  "<body onload=alert(1)>",
  "<iframe src=javascript:alert(1)></iframe>",
  "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
  "<math><mi xlink:href=\"javascript:alert(1)\">x</mi></math>",
  "<a href=\"javascript:alert(1)\">x</a>",
  "\" onmouseover=\"alert(1)\" x=\"",
  "' onfocus='alert(1)' autofocus x='",
  "\" autofocus onfocus=alert(1) x=\"",
  "</textarea><script>alert(1)</script>",
  "</title><script>alert(1)</script>",
  "</pre><script>alert(1)</script>",
  "</template><script>alert(1)</script>",
  "</option></select><img src=x onerror=alert(1)>",
  "<!--><script>alert(1)</script>-->",
  "<![CDATA[<script>alert(1)</script>]]>",
  "<style>@import 'http://evil.example/x.css';</style>",
  "<link rel=stylesheet href=http://evil.example/x.css>",
  "<meta http-equiv=refresh content='0;url=http://evil.example/'>",
  "<base href=http://evil.example/>",
  "<form action=http://evil.example/><input name=x></form>",
  "<object data=javascript:alert(1)></object>",
  "<embed src=javascript:alert(1)>",
  "<video><source onerror=alert(1)></video>",
  "<details open ontoggle=alert(1)>",
  "<input autofocus onfocus=alert(1)>",
  "<marquee onstart=alert(1)>",
  "{{7*7}}{% raw %}${7*7}#{7*7}",
  "&lt;script&gt;alert(1)&lt;/script&gt;",
  "&#60;script&#62;alert(1)&#60;/script&#62;",
  "%3Cscript%3Ealert(1)%3C/script%3E",
  "\u003cscript\u003ealert(1)\u003c/script\u003e",
  "<scr\u0000ipt>alert(1)</scr\u0000ipt>".replaceAll("\u0000", " "),
  "\u202e<script>alert(1)</script>",
];
// Each as it is, in upper case, behind quotes of both kinds, with a tail, and twice.
const STRINGS = TRICKS.flatMap((one) => [one, one.toUpperCase(), `"'>${one}`, `x\\"${one}`, `${one}${one}`]);

let sz, hooks, chromium, key;

before(async () => {
  [sz, hooks, chromium] = await Promise.all([
    gateway({ SENDERZ_LIMITS__WEBHOOKS_PER_TENANT: "1000", SENDERZ_RETRY__SCHEDULE: "50ms" }),
    receiver(),
    browser(),
  ]);
  key = (await sz.ask("POST", "/v1/tenants", { body: { id: "acme", name: "\"><script>alert(1)</script>" } })).api_key;
});

after(async () => {
  await chromium?.close();
  hooks?.stop();
  await sz?.stop();
});

test("hostile strings stay strings", { timeout: 600_000 }, async () => {
  assert.ok(STRINGS.length >= 200, `${STRINGS.length}`);
  // A webhook for each: in its URL, its description and its header, in what it answers, and in what it
  // answers with.
  const bodies = [];
  for (const [nth, text] of STRINGS.entries()) {
    const path = `/hook-${nth}/${encodeURIComponent(text).replaceAll("'", "%27")}`;
    hooks.answers.set(path, (_, response) => {
      const header = text.replace(/[^\x20-\x7e]/g, "");
      response.writeHead(nth % 2 ? 500 : 302, { "content-type": "text/html", "x-echo": header, location: encodeURI(header) }).end(text);
    });
    bodies.push({ url: hooks.url + path, events: ["message.failed"], description: text.slice(0, 900), headers: { "X-Told": text.replace(/[^\x20-\x7e]/g, "") } });
  }
  const webhooks = [];
  for (const body of bodies) webhooks.push(await sz.ask("POST", "/v1/webhooks", { tenant: "acme", body }));
  // One event for all of them, its own fields hostile too.
  const all = STRINGS.join("\n");
  const { id } = await sz.event("acme", "message.failed", { text: all, status_reason: TRICKS[0], recipient: TRICKS[2], channel: TRICKS[3], [TRICKS[4]]: STRINGS });
  const deliveries = [];
  for (let cursor = ""; ; ) {
    const page = await sz.ask("GET", `/v1/deliveries?limit=100${cursor}`, { tenant: "acme" });
    deliveries.push(...page.data);
    if (!page.next_cursor) break;
    cursor = `&cursor=${page.next_cursor}`;
  }
  const { context, wrong } = await watched(chromium, sz.base);
  const page = await logIn(context, sz.base, key);
  const visit = async (path) => {
    await page.goto(sz.base + path, { waitUntil: "domcontentloaded" });
    const added = await page.evaluate(
      () => document.querySelectorAll("main script, main style, main iframe, main object, main embed, main link, main base, main meta, main img, main marquee, main video, main [onerror], main [onload], main [onfocus], main [onmouseover]").length,
    );
    assert.equal(added, 0, path);
  };
  const of = (path) => `/portal/t/acme${path}`;
  for (const path of ["/", "/webhooks", "/deliveries", "/events", `/events/${id}`, "/live", "/replays/new", "/keys"]) await visit(of(path));
  for (const webhook of webhooks) await visit(of(`/webhooks/${webhook.id}`));
  for (const delivery of deliveries) await visit(of(`/deliveries/${delivery.id}`));
  // And what only the visitor fills in, or a link that somebody sends.
  for (const text of STRINGS) {
    const part = encodeURIComponent(text);
    await visit(of(`/deliveries?q=${part}&status=${part}&since=${part}&webhook=${part}&done=${part}&cursor=${part}`));
  }
  for (const text of TRICKS) {
    const part = encodeURIComponent(text);
    await visit(of(`/deliveries?status=${part}&since=${part}&webhook=${part}&code=${part}`));
    await visit(of(`/events?event_type=${part}&cursor=${part}`));
    await visit(of(`/live?webhook=${part}`));
    await visit(of(`/replays/new?webhook=${part}&since=${part}`));
    await visit(of(`/deliveries/${part}`));
    await visit(`/portal/link/${part}`);
  }
  await visit(of("/verify"));
  for (const text of TRICKS) {
    for (const label of [/^Signature/, /^webhook-id/, /^webhook-timestamp/, /^Body/]) await page.getByLabel(label).fill(text);
    await page.getByRole("button", { name: "Check" }).click();
    await page.getByRole("alert").waitFor();
  }
  // The tail has them in the one script that makes rows.
  await page.goto(sz.base + of("/live"));
  await page.getByText("Live: 0 attempts").waitFor();
  await sz.ask("POST", `/v1/webhooks/${webhooks[2].id}/test`, { tenant: "acme", body: { type: "message.sent" } });
  await page.locator("[data-rows] tbody tr").first().waitFor();
  assert.deepEqual(wrong, []);
});
