// Holds an SDK to the vectors. It runs in Node, Bun, Deno and Workers, so it names none of them.

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function bytesOf(body) {
  if (body.base64 !== undefined) return Uint8Array.from(atob(body.base64), (c) => c.charCodeAt(0));
  if (body.text !== undefined) return new TextEncoder().encode(body.text);
  return new TextEncoder().encode((body.start ?? "") + body.repeat.repeat(body.times) + (body.end ?? ""));
}

/** What differs, in sentences; the count of what was compared. */
export function disagreements({ SenderZ, WebhookVerificationError }, vectors) {
  const wrong = [];
  let compared = 0;
  const expect = (what, found, expected) => {
    compared++;
    if (found !== expected) wrong.push(`${what}: ${found} instead of ${expected}`);
  };
  const bodies = Object.fromEntries(Object.entries(vectors.bodies).map(([name, body]) => [name, bytesOf(body)]));

  for (const one of vectors.verify) {
    const what = `${one.scheme}, ${one.name}`;
    const sz = new SenderZ({ webhookSecret: one.secrets.map((name) => vectors.secrets[name]) });
    const body = bodies[one.body];
    expect(`unwrap ${what}`, unwrapped(sz, one, body), one.expect);
    if (one.scheme !== "hex") continue;
    const valid = one.expect === "valid";
    expect(`verify ${what}`, sz.webhooks.verify(one.signature, body), valid);
    expect(`verify ArrayBuffer ${what}`, sz.webhooks.verify(one.signature, body.slice().buffer), valid);
    const text = textOf(body);
    if (text !== undefined) expect(`verify text ${what}`, sz.webhooks.verify(one.signature, text), valid);
  }
  return { wrong, compared };

  function unwrapped(sz, one, body) {
    const headers =
      one.scheme === "hex"
        ? { "X-Senderz-Signature": one.signature }
        : { "Webhook-Id": one.id, "Webhook-Timestamp": one.timestamp, "Webhook-Signature": one.signature };
    const now = new Date((one.now ?? vectors.now) * 1000);
    try {
      const event = sz.webhooks.unwrap(headers, body, { now, tolerance: one.tolerance ?? vectors.tolerance });
      return JSON.stringify(event) === JSON.stringify(JSON.parse(textOf(body))) ? "valid" : "another event";
    } catch (error) {
      if (!(error instanceof WebhookVerificationError)) return String(error);
      // The signature fitted; that the body is no event is another matter.
      return error.code === "malformed_payload" && !isEvent(body) ? "valid" : error.code;
    }
  }
}

function textOf(body) {
  try {
    return decoder.decode(body);
  } catch {
    return undefined;
  }
}

function isEvent(body) {
  try {
    return typeof JSON.parse(textOf(body)).data === "object";
  } catch {
    return false;
  }
}
