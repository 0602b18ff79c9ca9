// What verify and unwrap say to what no vector can hold: other kinds of values, and mistakes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import vm from "node:vm";
import { SenderZ, WebhookVerificationError, deliveryOf } from "@senderz/sdk";
import { webhook } from "@senderz/sdk/fetch";
import { vectors } from "./support.mjs";

const one = vectors.sign.find((signed) => signed.name === "event by new");
const body = vectors.bodies.event.text;
const now = new Date(vectors.now * 1000);
const sz = new SenderZ({ webhookSecret: vectors.secrets.new });
const standard = {
  "webhook-id": one.id,
  "webhook-timestamp": String(one.timestamp),
  "webhook-signature": one.standard,
};

function code(headers, given = body, options = { now }) {
  try {
    sz.webhooks.unwrap(headers, given, options);
    return "valid";
  } catch (error) {
    assert.ok(error instanceof WebhookVerificationError, String(error));
    return error.code;
  }
}

test("verify takes the body in every raw form", () => {
  const bytes = new TextEncoder().encode(body);
  const padded = new Uint8Array(bytes.length + 8);
  padded.set(bytes, 4);
  const forms = [
    body,
    bytes,
    bytes.buffer,
    Buffer.from(body),
    padded.subarray(4, -4),
    new DataView(padded.buffer, 4, bytes.length),
    vm.runInNewContext("Uint8Array.from(bytes).buffer", { bytes }),
  ];
  for (const form of forms) {
    assert.equal(sz.webhooks.verify(one.hex, form), true);
    assert.equal(code(standard, form), "valid");
  }
});

test("verify says false to a header that is not there or not right, whatever the body", () => {
  for (const signature of [undefined, null, "", [], [one.hex, one.hex], "x", "0".repeat(64)]) {
    assert.equal(sz.webhooks.verify(signature, body), false, String(signature));
    assert.equal(sz.webhooks.verify(signature, ""), false, String(signature));
  }
  assert.equal(sz.webhooks.verify([one.hex], body), true, "as Node types a header");
});

test("a body that is not raw is a TypeError that says what to do", () => {
  const bodies = [JSON.parse(body), [], undefined, null, 7, new Date(), new Map()];
  for (const wrong of bodies) {
    const said = { name: "TypeError", message: /raw request body.*express\.raw/ };
    assert.throws(() => sz.webhooks.verify(one.hex, wrong), said);
    assert.throws(() => sz.webhooks.verify(undefined, wrong), said);
    assert.throws(() => sz.webhooks.unwrap(standard, wrong), said);
  }
  assert.throws(() => sz.webhooks.verify(one.hex, JSON.parse(body)), /a parsed object/);
});

test("swapped arguments are a TypeError that says so", () => {
  const swapped = { name: "TypeError", message: /swapped/ };
  const overlap = `${one.hex},${"0".repeat(64)}`;
  for (const [first, second] of [
    [body, one.hex],
    [body, overlap],
    [Buffer.from(body), one.hex],
    [new TextEncoder().encode(body).buffer, one.hex],
    [JSON.parse(body), one.hex],
  ]) {
    assert.throws(() => sz.webhooks.verify(first, second), swapped);
  }
  assert.throws(() => sz.webhooks.unwrap(body, standard), { name: "TypeError", message: /headers first/ });
});

test("no header and no raw body that a stranger sends makes verify throw, or unwrap say anything but a code", () => {
  const hostile = ["", " ", ",", "{}", "[]", "null", body, one.hex, "0".repeat(64), `${"0".repeat(64)},${"0".repeat(64)}`, "a".repeat(1 << 17), "0".repeat(64).concat(",").repeat(20_000), "v1,", "\0", "\ud800", "__proto__", "é"];
  for (const signature of [...hostile, undefined, null, hostile]) {
    for (const given of hostile) {
      const forms = [given, new TextEncoder().encode(given)];
      for (const form of forms) {
        const fits = signature === one.hex && given === body;
        // The one case that is told: a signature that is right, the other way round.
        if (signature === body && form === one.hex) continue;
        assert.equal(sz.webhooks.verify(signature, form), fits, `${String(signature).slice(0, 70)} over ${given.slice(0, 70)}`);
      }
    }
  }
  for (const value of hostile) {
    for (const name of [...Object.keys(standard), "x-senderz-signature"]) {
      const headers = name === "x-senderz-signature" ? { [name]: value } : { ...standard, [name]: value };
      assert.equal(typeof code(headers), "string");
    }
  }
});

test("no message shows the secret or the body", () => {
  const secret = vectors.secrets.new;
  const attempts = [
    () => sz.webhooks.verify(one.hex, { canary: secret }),
    () => sz.webhooks.verify({ canary: secret }, secret),
    () => sz.webhooks.unwrap(standard, secret, { now }),
    () => new SenderZ({ webhookSecret: `${secret}!` }),
    () => new SenderZ({ webhookSecret: secret.slice(6) }),
  ];
  for (const attempt of attempts) {
    assert.throws(attempt, (error) => !`${error.stack}${JSON.stringify(error)}`.includes(secret.slice(8, 20)));
  }
  const printed = inspect(new SenderZ({ webhookSecret: secret, apiKey: secret }), { depth: null, showHidden: true });
  assert.ok(!printed.includes(secret.slice(8, 20)));
});

test("a secret is checked where it is given", () => {
  const short = `whsec_${Buffer.alloc(23).toString("base64")}`;
  const long = `whsec_${Buffer.alloc(65).toString("base64")}`;
  const { new: good } = vectors.secrets;
  for (const wrong of ["", "whsec_", good.slice(6), `${good} `, ` ${good}`, good.slice(0, -1), short, long, 7, null]) {
    const webhookSecret = wrong === null ? [wrong] : wrong;
    assert.throws(() => new SenderZ({ webhookSecret }), { name: "TypeError", message: /webhook secret/ }, String(wrong));
  }
});

test("without a secret everything but verifying works", () => {
  for (const webhookSecret of [undefined, []]) {
    const without = new SenderZ({ webhookSecret });
    const said = { name: "TypeError", message: /there is no webhookSecret/ };
    assert.throws(() => without.webhooks.verify(one.hex, body), said);
    assert.throws(() => without.webhooks.unwrap(standard, body), said);
  }
});

test("unwrap reads headers of every kind in every letter case", () => {
  const upper = Object.fromEntries(Object.entries(standard).map(([name, value]) => [name.toUpperCase(), value]));
  const lists = Object.fromEntries(Object.entries(standard).map(([name, value]) => [name, [value]]));
  for (const headers of [standard, upper, lists, new Headers(standard)]) assert.equal(code(headers), "valid");
  for (const headers of [{ "x-senderz-signature": one.hex }, new Headers({ "X-Senderz-Signature": one.hex })]) {
    assert.equal(code(headers), "valid");
  }
});

test("unwrap prefers the scheme that has a time in it, and wants all of it", () => {
  const hex = { "x-senderz-signature": one.hex };
  assert.equal(code({}), "missing_header");
  assert.equal(code({ ...standard, "x-senderz-signature": "wrong" }), "valid");
  const wrong = { ...standard, "webhook-signature": `v1,${Buffer.alloc(32).toString("base64")}` };
  assert.equal(code({ ...wrong, ...hex }), "signature_mismatch");
  for (const name of Object.keys(standard)) {
    const { [name]: _, ...rest } = standard;
    assert.equal(code({ ...rest, ...hex }), "missing_header", name);
  }
  const tomorrow = { now: new Date((vectors.now + 86_400) * 1000) };
  assert.equal(code({ ...standard, ...hex }, body, tomorrow), "timestamp_too_old");
  for (const tolerance of [-1, Number.NaN, "x"]) {
    assert.throws(() => sz.webhooks.unwrap(standard, body, { tolerance }), TypeError);
  }
  assert.equal(code(standard, body, { tolerance: Number.POSITIVE_INFINITY }), "valid");
});

test("who wants a time in it is given one, by the adapters too", async () => {
  const hex = { "X-Senderz-Signature": one.hex };
  assert.equal(code(hex), "valid", "by itself it does not say how old it is");
  assert.equal(code(hex, body, { now, requireTimestamp: true }), "missing_header");
  assert.equal(code({ ...standard, ...hex }, body, { now, requireTimestamp: true }), "valid");

  const strict = new SenderZ({ webhookSecret: vectors.secrets.new, requireTimestamp: true });
  assert.throws(() => strict.webhooks.unwrap(hex, body, { now, requireTimestamp: undefined }), { code: "missing_header" });
  assert.equal(strict.webhooks.unwrap(hex, body, { now, requireTimestamp: false }).type, JSON.parse(body).type);
  const stripped = new Request("http://localhost/", { method: "POST", headers: hex, body });
  assert.equal((await webhook(strict, () => assert.fail())(stripped)).status, 401);
  assert.equal(strict.webhooks.verify(one.hex, body), true, "verify is asked about one header");
});

test("a signed body that is no event is malformed_payload", async () => {
  const { createHmac } = await import("node:crypto");
  const bodies = ["", "null", "7", "[]", "{}", '"message.sent"', '{"type":7,"data":{}}', '{"type":"message.sent"}', "{", "\ufeff{}"];
  for (const text of [...bodies, Buffer.from([0x22, 0xff, 0x22])]) {
    const hex = createHmac("sha256", vectors.secrets.new).update(text).digest("hex");
    assert.equal(code({ "x-senderz-signature": hex }, text), "malformed_payload", String(text));
  }
  const newer = '{"type":"message.translated","data":{}}';
  const hex = createHmac("sha256", vectors.secrets.new).update(newer).digest("hex");
  assert.equal(code({ "x-senderz-signature": hex }, newer), "valid", "a newer gateway's type");
});

test("deliveryOf tells which attempt of which event a request is", () => {
  const headers = { ...standard, "X-Senderz-Delivery": "dlv_1", "X-Senderz-Attempt": "3" };
  assert.deepEqual(deliveryOf(headers), { eventId: one.id, id: "dlv_1", attempt: 3 });
  assert.deepEqual(deliveryOf({}), { eventId: undefined, id: undefined, attempt: undefined });
  for (const odd of ["", "x", "0", "-1", "1.5", "1, 1", "1e3", "9".repeat(400)]) {
    assert.equal(deliveryOf({ "x-senderz-attempt": odd }).attempt, undefined, odd);
  }
});
