// The stream against scripted connections: what it makes of pieces, breaks and refusals.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { ApiError, SenderZ } from "@senderz/sdk";

const apiKey = "szk_tenant_test";

/** Each connection is answered by the next script, which is given the response and what was asked. */
async function scripted(t, scripts) {
  const asked = [];
  const server = createServer((request, response) => {
    asked.push({ url: request.url, last: request.headers["last-event-id"], accept: request.headers.accept });
    scripts[asked.length - 1](response, request);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return { asked, baseUrl: `http://127.0.0.1:${server.address().port}` };
}

const begin = (response) => response.writeHead(200, { "content-type": "text/event-stream" });
const attempt = (id, number) => `event: attempt\nid: ${id}\ndata: {"attempt":{"number":${number}},"text":"é€😀"}\n\n`;

/** The first `count` events, by their type and number or count. */
async function take(stream, count) {
  const taken = [];
  for await (const { type, id, data } of stream) {
    taken.push([type, id, type === "attempt" ? data.attempt.number : data.missed]);
    if (taken.length === count) break;
  }
  return taken;
}

test("events come whole, however their bytes were cut", async (t) => {
  const text = `retry: 1000\nid: pos_0\n\n${attempt("pos_1", 1)}: nothing new\nid: pos_2\n\n${attempt("pos_3", 2).replaceAll("\n", "\r\n")}event: lagged\nid: pos_4\ndata: {"missed":7}\n\nevent: other\ndata: x\n\n${attempt("pos_5", 3)}`;
  const bytes = new TextEncoder().encode(text);
  for (const size of [1, 7, bytes.length]) {
    const { asked, baseUrl } = await scripted(t, [
      async (response) => {
        begin(response);
        for (let at = 0; at < bytes.length; at += size) {
          response.write(bytes.slice(at, at + size));
          await new Promise(setImmediate);
        }
      },
    ]);
    const params = { status: ["failed", "retrying"], code: "5xx" };
    const taken = await take(new SenderZ({ apiKey, baseUrl }).stream(params), 4);
    assert.deepEqual(taken, [["attempt", "pos_1", 1], ["attempt", "pos_3", 2], ["lagged", "pos_4", 7], ["attempt", "pos_5", 3]]);
    assert.deepEqual(asked, [{ url: "/v1/stream?status=failed%2Cretrying&code=5xx", last: undefined, accept: "text/event-stream" }]);
  }
});

test("a connection that breaks is made again behind what was seen, whoever broke it", async (t) => {
  const { asked, baseUrl } = await scripted(t, [
    (response) => begin(response).end(`id: pos_0\n\n${attempt("pos_1", 1)}`),
    // Half an event is none: it comes again.
    (response) => begin(response).write(attempt("pos_2", 2).slice(0, -1), () => response.destroy()),
    (response) => response.writeHead(503, { "retry-after": "1" }).end("{}"),
    (response) => begin(response).end(": nothing new\nid: pos_9\n\n"),
    (response) => begin(response).write(attempt("pos_10", 3)),
  ]);
  const taken = await take(new SenderZ({ apiKey, baseUrl }).stream(), 2);
  assert.deepEqual(taken, [["attempt", "pos_1", 1], ["attempt", "pos_10", 3]]);
  assert.deepEqual(asked.map(({ last }) => last), [undefined, "pos_1", "pos_1", "pos_1", "pos_9"]);
});

test("a refusal ends it, at the beginning and later", async (t) => {
  const refuse = (status) => (response) => response.writeHead(status).end(JSON.stringify({ code: "x", status }));
  const refused = (status) => (error) => error instanceof ApiError && error.status === status;
  const first = await scripted(t, [refuse(401)]);
  await assert.rejects(take(new SenderZ({ apiKey, ...first }).stream(), 1), refused(401));
  const later = await scripted(t, [(response) => begin(response).end(attempt("pos_1", 1)), refuse(400)]);
  await assert.rejects(take(new SenderZ({ apiKey, ...later }).stream(), 2), refused(400));
  // A long wait is the caller's, here as elsewhere.
  const busy = (response) => response.writeHead(429, { "retry-after": "3600" }).end("{}");
  const asked = await scripted(t, [busy]);
  const watched = (scripts) => new SenderZ({ apiKey, ...scripts }).stream(undefined, { signal: AbortSignal.timeout(20_000) });
  await assert.rejects(take(watched(asked), 1), (error) => refused(429)(error) && error.retryAfter === 3600);
  const begun = await scripted(t, [(response) => begin(response).end(attempt("pos_1", 1)), busy]);
  await assert.rejects(take(watched(begun), 2), refused(429));
  // Before it has begun it is a request like any other.
  const never = await scripted(t, [refuse(503), refuse(503)]);
  await assert.rejects(take(new SenderZ({ apiKey, maxRetries: 1, ...never }).stream(), 1), refused(503));
  assert.equal(never.asked.length, 2);
  await assert.rejects(take(new SenderZ({ apiKey, baseUrl: "http://127.0.0.1:1" }).stream(), 1), TypeError);
});

test("the signal ends it, and leaving the loop closes the connection", async (t) => {
  let closed;
  const wasClosed = new Promise((resolve) => (closed = resolve));
  const { baseUrl } = await scripted(t, [
    (response) => begin(response).write(attempt("pos_1", 1)),
    (response) => {
      response.on("close", closed);
      begin(response).write(attempt("pos_1", 1));
    },
  ]);
  const sz = new SenderZ({ apiKey, baseUrl });
  const controller = new AbortController();
  const reading = (async () => {
    for await (const _ of sz.stream(undefined, { signal: controller.signal })) controller.abort(new Error("enough"));
  })();
  await assert.rejects(reading, /enough/);
  await take(sz.stream(undefined, { lastEventId: "pos_0" }), 1);
  await wasClosed;
});
