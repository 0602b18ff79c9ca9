// The client against scripted answers: when it asks again, when it does not, and what it never does.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { ApiError, SenderZ } from "@senderz/sdk";

const PROBLEM = {
  type: "/problems/rate_limited",
  title: "More comes than the limit allows",
  status: 429,
  detail: "slower",
  code: "rate_limited",
};

/** Gives the answers in order, `[status, headers, body]`, and keeps what it was asked. */
async function scripted(t, answers) {
  const asked = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    asked.push({ method: request.method, url: request.url, headers: request.headers, body, at: performance.now() });
    const [status, headers = {}, answer = {}] = answers[asked.length - 1] ?? [599];
    if (status === "silence") return;
    response.writeHead(status, headers).end(typeof answer === "string" ? answer : JSON.stringify(answer));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return { asked, baseUrl: `http://127.0.0.1:${server.address().port}` };
}

const apiKey = "szk_tenant_test";
const refusal = (expected) => (error) => {
  assert.ok(error instanceof ApiError, String(error));
  for (const [name, value] of Object.entries(expected)) assert.deepEqual(error[name], value, name);
  return true;
};

test("429 and 503 are asked again after Retry-After, and not before", async (t) => {
  const date = new Date(Date.now() + 2500).toUTCString();
  const answers = [
    [429, { "retry-after": "1" }, PROBLEM],
    [503, { "retry-after": date }, PROBLEM],
    [200, {}, { id: "wh_1" }],
  ];
  const { asked, baseUrl } = await scripted(t, answers);
  const sz = new SenderZ({ apiKey, baseUrl });
  assert.deepEqual(await sz.webhooks.create({ url: "https://example.com", events: ["*"] }), { id: "wh_1" });
  assert.equal(asked.length, 3);
  // Timers may be a millisecond early.
  assert.ok(asked[1].at - asked[0].at >= 998, `${asked[1].at - asked[0].at}`);
  assert.ok(Date.now() >= Date.parse(date) - 2, "the date was waited for");
  assert.deepEqual(asked.map(({ method, body }) => method + body), Array(3).fill(asked[0].method + asked[0].body));
});

test("what is asked again carries the same idempotency key", async (t) => {
  const { asked, baseUrl } = await scripted(t, [[503, { "retry-after": "0" }, PROBLEM], [429, { "retry-after": "0" }, PROBLEM], [202, {}, { id: "evt_1" }]]);
  await new SenderZ({ apiKey, baseUrl }).events.send("acme", { type: "message.sent" }, { idempotencyKey: "order-17" });
  assert.deepEqual(asked.map(({ headers }) => headers["idempotency-key"]), Array(3).fill("order-17"));
});

test("a Retry-After that is neither seconds nor a date is none", async (t) => {
  for (const value of ["-1", "1.5", "soon", "1,2", "-1 GMT"]) {
    const { asked, baseUrl } = await scripted(t, [[503, { "retry-after": value }, PROBLEM]]);
    const sz = new SenderZ({ apiKey, baseUrl, maxRetries: 0 });
    await assert.rejects(sz.webhooks.list(), refusal({ retryAfter: undefined }), value);
    assert.equal(asked.length, 1);
  }
});

test("without Retry-After it waits longer each time, and then gives up", async (t) => {
  const { asked, baseUrl } = await scripted(t, Array(9).fill([503, {}, { ...PROBLEM, status: 503, code: "unavailable" }]));
  const sz = new SenderZ({ apiKey, baseUrl, maxRetries: 2 });
  await assert.rejects(sz.webhooks.list(), refusal({ status: 503, code: "unavailable", retryAfter: undefined }));
  assert.equal(asked.length, 3);
  const waits = [asked[1].at - asked[0].at, asked[2].at - asked[1].at];
  assert.ok(waits[0] >= 248 && waits[1] >= 498, `${waits}`);
});

test("a Retry-After of more than a minute is the caller's to wait for", async (t) => {
  const headers = { "retry-after": "3600", "x-request-id": "req_1" };
  const { asked, baseUrl } = await scripted(t, [[429, headers, PROBLEM]]);
  const expected = { status: 429, retryAfter: 3600, requestId: "req_1" };
  await assert.rejects(new SenderZ({ apiKey, baseUrl }).events.list(), refusal(expected));
  assert.equal(asked.length, 1);
});

test("nothing else is asked again", async (t) => {
  for (const status of [302, 400, 401, 404, 409, 422, 500, 502, 504, 507]) {
    const headers = status === 302 ? { location: "http://127.0.0.1:1/" } : { "retry-after": "0" };
    const { asked, baseUrl } = await scripted(t, [[status, headers, { ...PROBLEM, status, code: "x" }]]);
    const sz = new SenderZ({ apiKey, baseUrl });
    await assert.rejects(sz.deliveries.replay("dlv_1"), refusal({ status, code: "x", name: "ApiError" }));
    assert.equal(asked.length, 1, `${status}`);
  }
});

test("a refusal carries the problem document, and one that has none says so", async (t) => {
  const errors = [{ pointer: "/url", detail: "it is required" }];
  const answers = [[400, {}, { ...PROBLEM, status: 400, code: "invalid_body", detail: "url: it is required", errors }], [500, {}, null], [418, {}, 7], [502, {}, "<html>"], [200, {}, "<html>"], [204, {}, ""]];
  const { baseUrl } = await scripted(t, answers);
  const sz = new SenderZ({ apiKey, baseUrl });
  await assert.rejects(sz.webhooks.list(), (error) => {
    assert.deepEqual(error.problem, { ...PROBLEM, status: 400, code: "invalid_body", detail: "url: it is required", errors });
    return refusal({ code: "invalid_body", errors, message: "400: url: it is required" })(error);
  });
  await assert.rejects(sz.webhooks.list(), refusal({ status: 500, code: "unknown", errors: [] }));
  await assert.rejects(sz.webhooks.list(), refusal({ status: 418, code: "unknown" }));
  for (const status of [502, 200]) {
    const message = `${status}: the answer is not the gateway's: is baseUrl where its API is?`;
    await assert.rejects(sz.webhooks.list(), refusal({ status, code: "unknown", message }));
  }
  assert.equal(await sz.webhooks.delete("wh_1"), undefined);
});

test("filters go out as the API writes them", async (t) => {
  const { asked, baseUrl } = await scripted(t, [[200, {}, { data: [], next_cursor: null }]]);
  const sz = new SenderZ({ apiKey, baseUrl: `${baseUrl}/behind/`, tenant: "acme" });
  const since = new Date("2026-11-23T04:20:00Z");
  const status = ["failed", "canceled"];
  await sz.deliveries.list({ status, event_type: "message.sent", since, until: undefined, code: "5xx", limit: 7 });
  const url = new URL(asked[0].url, baseUrl);
  assert.equal(url.pathname, "/behind/v1/deliveries");
  assert.deepEqual(Object.fromEntries(url.searchParams), {
    status: "failed,canceled",
    event_type: "message.sent",
    since: "2026-11-23T04:20:00.000Z",
    code: "5xx",
    limit: "7",
  });
  assert.equal(asked[0].headers.authorization, `Bearer ${apiKey}`);
  assert.equal(asked[0].headers["senderz-tenant"], "acme");
  assert.equal(asked[0].headers["content-type"], undefined);
});

test("all goes through empty and short pages to the last one", async (t) => {
  const pages = [
    [["a", "b"], "1"],
    [[], "2"],
    [["c"], null],
  ];
  const answers = pages.map(([data, next_cursor]) => [200, {}, { data, next_cursor }]);
  const { asked, baseUrl } = await scripted(t, answers);
  const found = [];
  for await (const one of new SenderZ({ apiKey, baseUrl }).events.all({ limit: 2 })) found.push(one);
  assert.deepEqual(found, ["a", "b", "c"]);
  assert.deepEqual(asked.map(({ url }) => url), ["", "&cursor=1", "&cursor=2"].map((more) => `/v1/events?limit=2${more}`));
});

test("an id that would name another route is refused before anything is sent", async (t) => {
  const { asked, baseUrl } = await scripted(t, []);
  const sz = new SenderZ({ apiKey, baseUrl });
  for (const id of ["", ".", "..", "a/b", "a?b", "a#b", "%2e%2e", undefined, null]) {
    await assert.rejects(sz.webhooks.delete(id), TypeError, String(id));
    await assert.rejects(sz.events.send(id, {}), TypeError, String(id));
  }
  assert.equal(asked.length, 0);
});

test("what is missing in the options is said by name", async () => {
  await assert.rejects(new SenderZ({ baseUrl: "http://127.0.0.1:1" }).webhooks.list(), /apiKey/);
  await assert.rejects(new SenderZ({ apiKey }).webhooks.list(), /baseUrl/);
});

test("no message shows the API key, and white space around it is not part of it", async (t) => {
  const { asked, baseUrl } = await scripted(t, [[200, {}, { data: [] }]]);
  for (const wrong of ["szk_tenant_canary\nX", "szk_tenant_canary ö", "szk_tenant_canary\0", " "]) {
    await assert.rejects(new SenderZ({ apiKey: wrong, baseUrl }).webhooks.list(), (error) => {
      assert.ok(error instanceof TypeError && /apiKey/.test(error.message) && !error.stack.includes("canary"), error.stack);
      return true;
    });
  }
  await new SenderZ({ apiKey: ` ${apiKey}\n`, baseUrl }).webhooks.list();
  assert.deepEqual(asked.map(({ headers }) => headers.authorization), [`Bearer ${apiKey}`]);
});

test("a timeout may be longer than any timer", async (t) => {
  const { baseUrl } = await scripted(t, Array(2).fill([200, {}, { data: [] }]));
  for (const timeout of [Number.POSITIVE_INFINITY, 1e7]) await new SenderZ({ apiKey, baseUrl, timeout }).webhooks.list();
});

test("a batch goes out line by line", async (t) => {
  const { asked, baseUrl } = await scripted(t, [[202, {}, { accepted: 2, ids: ["evt_1", "evt_2"] }]]);
  const lines = ["a", "b"].map((tenant) => ({ tenant, payload: { type: "message.sent", data: { text: "x\ny" } } }));
  const sz = new SenderZ({ apiKey, baseUrl });
  assert.deepEqual(await sz.events.sendBatch(lines), { accepted: 2, ids: ["evt_1", "evt_2"] });
  const [{ method, url, headers, body }] = asked;
  assert.deepEqual([method, url, headers["content-type"]], ["POST", "/v1/events", "application/x-ndjson"]);
  assert.deepEqual(body.split("\n").map((line) => JSON.parse(line)), lines);
});

test("a request ends at its timeout, and with its signal", async (t) => {
  const { baseUrl } = await scripted(t, [["silence"], ["silence"], [429, { "retry-after": "50" }, PROBLEM]]);
  await assert.rejects(new SenderZ({ apiKey, baseUrl, timeout: 0.05 }).webhooks.list(), { name: "TimeoutError" });
  const sz = new SenderZ({ apiKey, baseUrl });
  await assert.rejects(sz.webhooks.list({}, { signal: AbortSignal.timeout(50) }), { name: "TimeoutError" });
  const from = performance.now();
  await assert.rejects(sz.webhooks.list({}, { signal: AbortSignal.timeout(200) }), { name: "TimeoutError" });
  assert.ok(performance.now() - from < 10_000, "the wait between two requests ends too");
  const ended = AbortSignal.abort(new Error("mine"));
  await assert.rejects(sz.webhooks.list({}, { signal: ended }), /mine/);
});

test("a POST carries the key that makes it safe to repeat, and nothing else does", async (t) => {
  const { asked, baseUrl } = await scripted(t, [[201], [200], [200]]);
  const sz = new SenderZ({ apiKey, baseUrl });
  const options = { idempotencyKey: "order-17" };
  await sz.webhooks.create({ url: "https://example.com", events: ["*"] }, options);
  await sz.webhooks.get("wh_1", options);
  await sz.webhooks.update("wh_1", {}, options);
  assert.deepEqual(asked.map(({ headers }) => headers["idempotency-key"]), ["order-17", undefined, undefined]);
});

test("modify makes its change only to what it has read, and reads again where that has changed", async (t) => {
  const stale = { ...PROBLEM, status: 412, code: "precondition_failed" };
  const { asked, baseUrl } = await scripted(t, [
    [200, { etag: '"1"' }, { description: "a" }],
    [412, {}, stale],
    [200, { etag: '"2"' }, { description: "b" }],
    [200, { etag: '"3"' }, { description: "b!" }],
  ]);
  const change = ({ description }) => ({ description: `${description}!` });
  const changed = await new SenderZ({ apiKey, baseUrl }).webhooks.modify("wh_1", change);
  assert.deepEqual(changed, { description: "b!" });
  assert.deepEqual(
    asked.map(({ method, headers, body }) => [method, headers["if-match"], body]),
    [["GET", undefined, ""], ["PATCH", '"1"', '{"description":"a!"}'], ["GET", undefined, ""], ["PATCH", '"2"', '{"description":"b!"}']],
  );
});

test("modify gives up where others change the webhook all the time, and at once where it is refused", async (t) => {
  const stale = { ...PROBLEM, status: 412, code: "precondition_failed" };
  const busy = await scripted(t, Array(5).fill([[200, { etag: '"1"' }], [412, {}, stale]]).flat());
  const change = () => ({ enabled: false });
  const modify = ({ baseUrl }) => new SenderZ({ apiKey, baseUrl }).webhooks.modify("wh_1", change);
  await assert.rejects(modify(busy), refusal({ status: 412, code: "precondition_failed" }));
  assert.equal(busy.asked.length, 10);
  const refused = await scripted(t, [[200, { etag: '"1"' }], [400, {}, { ...PROBLEM, status: 400, code: "invalid_body" }]]);
  await assert.rejects(modify(refused), refusal({ status: 400 }));
  assert.equal(refused.asked.length, 2);
});
