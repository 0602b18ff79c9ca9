// The client against the running gateway; and its types, written by hand, against what that answered.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { before, test } from "node:test";
import { ApiError, SenderZ } from "@senderz/sdk";
import { webhook } from "@senderz/sdk/node";
import { compile } from "./readme.mjs";
import { OPERATOR_KEY, eventually, gateway, message, scratch, tenant } from "./support.mjs";

let api;
before(async (t) => {
  // Retries that a test can wait for, and one that none waits for.
  ({ api } = await gateway(t, {
    SENDERZ_RETRY__SCHEDULE: "10ms,1h",
    SENDERZ_LIMITS__WEBHOOK_TESTS: "1",
    SENDERZ_OPS__TENANT: "operators",
    SENDERZ_DELIVERY__DISABLE_ON_GONE: "true",
  }));
});

async function acme(id) {
  const made = await tenant(api, id);
  return {
    apiKey: made.api_key,
    sz: new SenderZ({ baseUrl: api, apiKey: made.api_key, webhookSecret: made.signing_secret }),
    operator: new SenderZ({ baseUrl: `${api}/`, apiKey: OPERATOR_KEY, tenant: id, maxRetries: 0 }),
  };
}

/** A receiver whose status the test sets, or whose handler it gives. */
async function receiver(t, handle) {
  const state = { status: 200 };
  const answer = (req, res) => req.resume().on("end", () => res.writeHead(state.status).end("said"));
  const server = createServer(handle ?? answer);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  state.url = `http://127.0.0.1:${server.address().port}/hook`;
  return state;
}

const refused = (status, code) => (error) => {
  assert.ok(error instanceof ApiError, String(error));
  assert.deepEqual([error.status, error.code], [status, code], error.message);
  return true;
};

test("webhooks, events and deliveries, from creation to replay", async (t) => {
  const { sz, operator } = await acme("whole");
  const { url } = await receiver(t);
  const answers = [];
  const keep = (type, answer) => {
    answers.push([type, answer]);
    return answer;
  };

  const settings = { description: "mine", headers: { "x-team": "a", "x-old": "b" }, success: "2xx", timeout: "5s", max_in_flight: 3, rate_limit: 50 };
  const webhook = keep("Webhook", await sz.webhooks.create({ url, events: ["message.sent", "message.failed"], ...settings }));
  assert.deepEqual({ ...webhook, ...settings }, webhook, "the settings are as given");
  const patch = { headers: { "x-old": null }, timeout: null, events: ["*"] };
  const patched = keep("Webhook", await sz.webhooks.update(webhook.id, patch));
  assert.deepEqual([patched.headers, patched.timeout, patched.max_in_flight], [{ "x-team": "a" }, null, 3]);
  assert.deepEqual(await sz.webhooks.get(webhook.id), patched);
  const disabled = await sz.webhooks.create({ url, events: ["*"], enabled: false });
  keep("Page<Webhook>", await sz.webhooks.list({ limit: 1 }));
  const ids = [];
  for await (const one of sz.webhooks.all({ limit: 1 })) ids.push(one.id);
  assert.deepEqual(ids, [disabled.id, webhook.id], "the newest first, over two pages");

  const sent = keep("AcceptedEvent", await operator.events.send("whole", message("message.failed", "msg_1"), { idempotencyKey: "k" }));
  const again = await operator.events.send("whole", message("message.failed", "msg_1"), { idempotencyKey: "k" });
  assert.deepEqual(again, sent, "the key makes it the same event");
  const delivered = await eventually("the event is delivered", async () => {
    const { data } = await sz.deliveries.list({ status: ["delivered", "failed"], webhook: webhook.id });
    return data[0];
  });
  assert.equal(delivered.event_id, sent.id);
  keep("Page<DeliverySummary>", await sz.deliveries.list());
  const event = keep("StoredEvent", await sz.events.get(sent.id));
  assert.deepEqual(event.payload, message("message.failed", "msg_1"));
  assert.deepEqual(event.skipped.map(({ reason, webhook_id }) => [reason, webhook_id]), [["disabled", disabled.id]]);
  const found = keep("FollowingEvents", await sz.events.after("start", { webhook: disabled.id, found_disabled: true }));
  assert.deepEqual(found.data.map(({ id }) => id), [sent.id]);
  const none = keep("FollowingEvents", await sz.events.after(sent.id));
  assert.deepEqual([none.data, none.next_cursor], [[], null]);
  await assert.rejects(sz.events.after(webhook.id), refused(400, "invalid_parameter"));
  keep("Page<EventSummary>", await sz.events.list({ event_type: ["message.failed", "message.sent"], since: new Date(0) }));

  keep("DeliverySummary", await sz.deliveries.replay(delivered.id));
  const twice = await eventually("the replay is delivered", async () => {
    const one = await sz.deliveries.get(delivered.id);
    return one.status === "delivered" && one.attempts_made === 2 && one;
  });
  keep("DeliveryDetails", twice);
  assert.deepEqual(twice.attempts.map(({ number, status }) => [number, status]), [[1, 200], [2, 200]]);

  const stats = keep("WebhookStats", await sz.webhooks.stats(webhook.id, { period: "1h" }));
  assert.deepEqual([stats.attempts, stats.success_rate, stats.deliveries.delivered], [2, 1, 2]);
  const all = keep("OverallStats", await sz.stats());
  assert.deepEqual([all.attempts, all.webhooks.enabled, all.webhooks.disabled], [2, 1, 1]);
  assert.ok((await new SenderZ({ baseUrl: api, apiKey: OPERATOR_KEY }).stats({ period: "3d" })).attempts >= 2);

  keep("SentTest", await sz.webhooks.test(webhook.id, "message.read"));
  await assert.rejects(operator.webhooks.test(webhook.id, "message.read"), (error) => {
    assert.ok(error.retryAfter >= 1 && error.retryAfter <= 60, `${error.retryAfter}`);
    assert.match(error.requestId, /^req_[0-9a-z]{26}$/);
    return refused(429, "rate_limited")(error);
  });

  assert.equal(await sz.webhooks.delete(webhook.id), undefined);
  await assert.rejects(sz.webhooks.get(webhook.id), refused(404, "not_found"));
  await typed(answers);
});

test("a webhook is tried before it is saved and before it is changed, and changed as it stands", async (t) => {
  const { sz, apiKey } = await acme("trying");
  const target = await receiver(t);
  const good = await sz.webhooks.check({ url: target.url, events: ["*"] });
  assert.deepEqual([good.ok, good.status, good.response.body], [true, 200, "said"]);
  assert.deepEqual((await sz.webhooks.list()).data, [], "nothing is saved");
  const webhook = await sz.webhooks.create({ url: target.url, events: ["*"], description: "a" });
  target.status = 500;
  const bad = await sz.webhooks.checkUpdate(webhook.id, { timeout: "5s" });
  assert.deepEqual([bad.ok, bad.status, bad.error.code], [false, 500, "status"]);
  assert.deepEqual(await sz.webhooks.get(webhook.id), webhook, "nothing is changed");
  const others = [async () => sz.webhooks.update(webhook.id, { description: "b" })];
  let changes = 0;
  const changed = await sz.webhooks.modify(webhook.id, ({ description }) => ({ description: `${description}${++changes}` }), {});
  assert.equal(changed.description, "a1");
  // Somebody else's change comes between reading and writing, once.
  const raced = new SenderZ({
    baseUrl: api,
    apiKey,
    fetch: async (url, options) => {
      if (options.method === "PATCH") await others.pop()?.();
      return fetch(url, options);
    },
  });
  assert.equal((await raced.webhooks.modify(webhook.id, ({ description }) => ({ description: `${description}!` }))).description, "b!");
  await typed([["WebhookCheck", good], ["WebhookCheck", bad], ["Webhook", changed]]);
});

test("a batch is accepted whole or not at all, and what it said of one person can be erased", async (t) => {
  const { sz, operator } = await acme("batching");
  const { url } = await receiver(t);
  await sz.webhooks.create({ url, events: ["*"] });
  const line = (id, recipient) => ({ tenant: "batching", payload: { ...message("message.read", id), data: { id, channel: "sms", recipient } } });
  const accepted = await operator.events.sendBatch([{ ...line("msg_1", "+1555"), idempotency_key: "one" }, line("msg_2", "+1666")]);
  assert.deepEqual([accepted.accepted, accepted.ids.length], [2, 2]);
  await assert.rejects(operator.events.sendBatch([line("msg_3", "+1555"), { tenant: "batching", payload: { type: "message.gone" } }]), (error) => {
    assert.match(error.errors[0].pointer, /\/2\//);
    return refused(400, "invalid_batch")(error);
  });
  assert.equal((await sz.events.list()).data.length, 2);

  const erasure = await sz.events.erase("+1555", { idempotencyKey: "forget" });
  assert.deepEqual(await sz.events.erase("+1555", { idempotencyKey: "forget" }), erasure, "the key makes it the same job");
  const found = await eventually("the event is forgotten", async () => {
    const job = await sz.erasures.get(erasure.id);
    return job.events === 1 && job;
  });
  const [one, other] = await Promise.all(accepted.ids.map((id) => sz.events.get(id)));
  assert.deepEqual([one.payload, typeof one.erased_at, other.payload.data.recipient], [null, "string", "+1666"]);
  const jobs = [];
  for await (const { id } of sz.erasures.all({ limit: 1 })) jobs.push(id);
  assert.deepEqual(jobs, [erasure.id]);
  await typed([["AcceptedBatch", accepted], ["Erasure", erasure], ["Erasure", found], ["StoredEvent", one], ["Page<Erasure>", await sz.erasures.list()]]);
});

test("the operator's webhook is told of one that was disabled, through the same adapter", async (t) => {
  const [operators, customer] = [await acme("operators"), await acme("leaving")];
  const told = [];
  const operator = await receiver(t, webhook(operators.sz, (event) => told.push(event)));
  await operators.sz.webhooks.create({ url: operator.url, events: ["webhook.disabled"] });
  const target = await receiver(t);
  target.status = 410;
  const leaving = await customer.sz.webhooks.create({ url: target.url, events: ["*"], description: "theirs" });
  await customer.operator.events.send("leaving", message("message.sent", "msg_1"));
  const [event] = await eventually("the operator is told", () => told.length > 0 && told);
  assert.equal(event.type, "webhook.disabled");
  assert.deepEqual(event.data, { ...event.data, id: leaving.id, tenant: "leaving", host: "127.0.0.1", description: "theirs", reason: "gone" });
  const disabled = await customer.sz.webhooks.get(leaving.id);
  assert.deepEqual([disabled.enabled, disabled.disabled_reason], [false, "gone"]);
  await typed([["WebhookDisabled", event], ["Webhook", disabled]]);
});

test("a failing delivery is seen, canceled, and replayed", async (t) => {
  const { sz, operator } = await acme("failing");
  const target = await receiver(t);
  target.status = 503;
  await sz.webhooks.create({ url: target.url, events: ["*"] });
  const { id } = await operator.events.send("failing", message("message.sent", "msg_1"));
  const waiting = await eventually("two attempts failed", async () => {
    const { data } = await sz.deliveries.list({ status: "retrying", code: "5xx", error: "status" });
    return data[0]?.attempts_made === 2 && data[0];
  });
  const details = await sz.deliveries.get(waiting.id);
  assert.deepEqual(details.attempts.map(({ error, response }) => [error.code, response.body]), Array(2).fill(["status", "said"]));
  await assert.rejects(sz.deliveries.replay(waiting.id), refused(409, "delivery_not_ended"));
  const canceled = await sz.deliveries.cancel(waiting.id);
  await eventually("it is canceled", async () => (await sz.deliveries.get(waiting.id)).status === "canceled");
  await assert.rejects(sz.deliveries.cancel(waiting.id), refused(409, "delivery_ended"));
  target.status = 200;
  await sz.deliveries.replay(waiting.id);
  const done = await eventually("it is delivered", async () => {
    const one = await sz.deliveries.get(waiting.id);
    return one.status === "delivered" && one;
  });
  assert.equal(done.attempts_made, 3);
  await typed([["StoredEvent", await sz.events.get(id)], ["DeliverySummary", waiting], ["DeliverySummary", canceled], ["DeliveryDetails", details]]);
});

test("many are replayed as a job, which can be looked at, paused, resumed and canceled", async (t) => {
  const { sz, operator } = await acme("replaying");
  const target = await receiver(t);
  target.status = 503;
  const webhook = await sz.webhooks.create({ url: target.url, events: ["*"] });
  for (const nth of [1, 2, 3]) {
    await operator.events.send("replaying", message("message.sent", `msg_${nth}`));
  }
  const waiting = await eventually("all wait for a retry", async () => {
    const { data } = await sz.deliveries.list({ status: "retrying" });
    return data.length === 3 && data.every(({ attempts_made }) => attempts_made === 2) && data;
  });
  for (const { id } of waiting) await sz.deliveries.cancel(id);
  await eventually("all are canceled", async () => (await sz.deliveries.list({ status: "canceled" })).data.length === 3);

  const counted = await sz.replays.create({ webhook: webhook.id, status: "canceled", dry_run: true });
  const found = await eventually("they are counted", async () => {
    const job = await sz.replays.get(counted.id);
    return job.state === "done" && job;
  });
  assert.deepEqual([found.matched, found.replayed, found.progress], [3, 0, 1]);

  target.status = 200;
  const made = await sz.replays.create({ webhook: webhook.id, status: ["canceled", "failed"], event_type: "message.sent", rate: 1 });
  const paused = await sz.replays.pause(made.id);
  assert.equal(paused.state, "paused");
  await sz.replays.resume(made.id);
  const done = await eventually("all are sent again", async () => {
    const job = await sz.replays.get(made.id);
    return job.state === "done" && job;
  });
  assert.deepEqual([done.matched, done.replayed, done.skipped], [3, 3, 0]);
  await assert.rejects(sz.replays.cancel(made.id), refused(409, "replay_ended"));
  const delivered = await eventually("all are delivered", async () => {
    const { data } = await sz.deliveries.list({ status: "delivered" });
    return data.length === 3 && data;
  });
  assert.deepEqual(delivered.map(({ attempts_made }) => attempts_made), [3, 3, 3], "numbers go on");

  const slow = await sz.replays.create({ status: "delivered", rate: 1 });
  assert.equal((await sz.replays.cancel(slow.id)).state, "canceled");
  const jobs = [];
  for await (const job of sz.replays.all({ limit: 2 })) jobs.push(job.id);
  assert.deepEqual(jobs, [slow.id, made.id, counted.id], "the newest first, over two pages");
  await assert.rejects(sz.replays.create({ status: "deliverd" }), refused(400, "invalid_body"));
  await typed([["Replay", found], ["Replay", paused], ["Replay", done], ["Page<Replay>", await sz.replays.list()]]);
});

test("the stream tells the attempts as they are made, and goes on where another left off", async (t) => {
  const { sz, operator } = await acme("streaming");
  const { url } = await receiver(t);
  const webhook = await sz.webhooks.create({ url, events: ["*"] });
  const seen = [];
  const watch = async (count, options) => {
    for await (const event of sz.stream({ webhook: webhook.id, status: "delivered" }, options)) {
      seen.push(event);
      if (seen.length === count) return;
    }
  };
  const send = (n) => operator.events.send("streaming", message("message.sent", `msg_${n}`));
  // Events until the stream has begun: it has no past.
  const watching = watch(1);
  let sent;
  await eventually("the first is told", async () => {
    sent ??= await send(0);
    if (seen.length === 0) sent = await send(1);
    return seen.length > 0;
  });
  await watching;
  const [{ id, type, data }] = seen;
  assert.deepEqual([type, data.tenant_id, data.status, data.attempt.status], ["attempt", "streaming", "delivered", 200]);
  const late = await send(2);
  await eventually("it is delivered", async () => (await sz.events.get(late.id)).deliveries[0].status === "delivered");
  while (seen.at(-1).data.event_id !== late.id) await watch(seen.length + 1, { lastEventId: seen.at(-1).id });
  assert.equal(new Set(seen.map((event) => event.id)).size, seen.length, "each once");
  assert.equal(seen[0].id, id);
  await assert.rejects(watch(99, { lastEventId: "evt_1" }), refused(400, "invalid_cursor"));
  await typed([["StreamEvent", seen[0]], ["StreamedAttempt", data]]);
});

test("what is wrong is said field by field, and another tenant's object is a missing one", async () => {
  const [{ sz }, other] = [await acme("one"), await acme("other")];
  await assert.rejects(sz.webhooks.create({ url: "http://10.0.0.1/", events: ["message.gone"] }), (error) => {
    assert.deepEqual(error.errors.map(({ pointer }) => pointer).sort(), ["/events/0", "/url"]);
    return refused(400, "invalid_body")(error);
  });
  await assert.rejects(sz.deliveries.list({ stauts: "failed" }), refused(400, "invalid_parameter"));
  await assert.rejects(new SenderZ({ baseUrl: api, apiKey: "szk_tenant_x" }).webhooks.list(), refused(401, "unauthorized"));
  const { id } = await sz.webhooks.create({ url: "https://example.com/", events: ["*"] });
  await assert.rejects(other.sz.webhooks.get(id), refused(404, "not_found"));
});

/** The answers as literals of their types: the compiler finds members that are missing or too many. */
async function typed(answers) {
  const folder = scratch("answers");
  const lines = answers.map(([type, answer], index) => `export const _${index}: sdk.${type.replace("<", "<sdk.")} = ${JSON.stringify(answer)};`);
  writeFileSync(join(folder, "answers.mts"), `import type * as sdk from "@senderz/sdk";\n${lines.join("\n")}\n`);
  compile(folder, { noEmit: true });
}
