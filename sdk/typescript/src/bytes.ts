/** Bytes in and out of what people hand over. Decoding is strict: one value has one spelling. */

/** A request's body as it came, before any JSON parser has seen it. */
export type RawBody = string | Uint8Array | ArrayBuffer;

const encoder = new TextEncoder();

export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/** Throws where the body is not a raw one, which is the mistake that most receivers make once. */
export function bytesOf(body: unknown): Uint8Array {
  if (typeof body === "string") return utf8(body);
  if (ArrayBuffer.isView(body)) return new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
  // Not `instanceof`: a test runner's or a worker's ArrayBuffer may be of another realm.
  if (nameOf(body) === "ArrayBuffer") return new Uint8Array(body as ArrayBuffer);
  throw new TypeError(
    `the body has to be the raw request body (a string, Buffer, Uint8Array or ArrayBuffer), and it is ${described(body)}. ` +
      "The signature covers the bytes as they were sent, so take them before a JSON parser does: " +
      "express.raw({ type: '*/*' }), await request.text(), in Next's pages router " +
      "`export const config = { api: { bodyParser: false } }`, or an adapter such as @senderz/sdk/express",
  );
}

/** What a value is, for messages to a developer; never the value. */
export function described(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  const name = nameOf(value);
  return name === "Object" ? "a parsed object" : `a value of type ${name}`;
}

function nameOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice(8, -1);
}

/** Lower-case hex of 32 bytes; none where it is anything else. */
export function macFromHex(text: string): Uint8Array | undefined {
  if (!/^[0-9a-f]{64}$/.test(text)) return undefined;
  return Uint8Array.from({ length: 32 }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

/** Canonical base64 of 32 bytes; none where it is anything else. */
export function macFromBase64(text: string): Uint8Array | undefined {
  const bytes = text.length === 44 ? fromBase64(text) : undefined;
  return bytes?.length === 32 ? bytes : undefined;
}

/** `atob` forgives white space, missing padding and stray bits; what it gave must encode to the same. */
export function fromBase64(text: string): Uint8Array | undefined {
  let decoded: string;
  try {
    decoded = atob(text);
  } catch {
    return undefined;
  }
  return btoa(decoded) === text ? Uint8Array.from(decoded, (c) => c.charCodeAt(0)) : undefined;
}

/** In a time that depends on the length alone. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  let different = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) different |= a[i]! ^ b[i]!;
  return different === 0;
}
