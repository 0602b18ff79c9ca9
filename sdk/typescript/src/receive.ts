/** What all adapters do with a request, whatever the framework: read, check, hand over, answer. */

import { bytesOf, type RawBody } from "./bytes.js";
import type { WebhookEvent } from "./event.js";
import { deliveryOf, type Delivery, type RequestHeaders } from "./headers.js";

/** The part of `SenderZ` that receiving needs. */
export interface Receiver {
  webhooks: { unwrap(headers: RequestHeaders, body: RawBody): WebhookEvent };
}

/**
 * Called with each event whose signature is right. Once it has returned or resolved, the delivery is
 * answered 200; what it throws is the framework's to answer, and the delivery comes again.
 */
export type Handler<Context extends unknown[] = []> = (
  event: WebhookEvent,
  delivery: Delivery,
  ...context: Context
) => unknown;

export interface Answer {
  status: number;
  body: string;
}

/** Four times the largest event. */
const MAX_BODY = 1 << 20;

export async function receive(
  sz: Receiver,
  headers: RequestHeaders,
  body: RawBody | undefined,
  handle: Handler,
): Promise<Answer> {
  if (body === undefined) return { status: 413, body: `a body may have ${MAX_BODY} bytes\n` };
  let event: WebhookEvent;
  try {
    event = sz.webhooks.unwrap(headers, body);
  } catch (error) {
    // By name: the class may be the other module format's.
    if (!(error instanceof Error) || error.name !== "WebhookVerificationError") throw error;
    const isPayload = (error as Error & { code?: string }).code === "malformed_payload";
    return { status: isPayload ? 400 : 401, body: `${error.message}\n` };
  }
  await handle(event, deliveryOf(headers));
  return { status: 200, body: "ok\n" };
}

/** For frameworks that speak `fetch`. */
export async function respond(sz: Receiver, request: Request, handle: Handler): Promise<Response> {
  if (request.method !== "POST") return new Response("POST only\n", { status: 405, headers: { allow: "POST" } });
  if (request.bodyUsed || request.body?.locked) {
    throw new TypeError(
      "the request's body was read before the webhook's handler. The signature covers its bytes, and they are gone: " +
        "let no middleware or validator read it on this route, or give that one request.clone()",
    );
  }
  const body = await bounded(chunksOf(request));
  const answer = await receive(sz, request.headers, body, handle);
  return new Response(answer.body, { status: answer.status });
}

/** A request of `node:http`, and what others have put on it. */
export interface NodeRequest extends AsyncIterable<Uint8Array> {
  headers: { readonly [name: string]: string | string[] | undefined };
  readableDidRead?: boolean;
  body?: unknown;
  /** Where some platforms keep it. */
  rawBody?: unknown;
}

export interface NodeResponse {
  writeHead(status: number, headers: Record<string, string>): { end(body: string): unknown };
}

/** For frameworks on `node:http`. The body is read here, unless it was read and kept raw. */
export async function answer(sz: Receiver, req: NodeRequest, res: NodeResponse, handle: Handler): Promise<void> {
  const kept = [req.rawBody, req.body].find((body) => typeof body === "string" || ArrayBuffer.isView(body));
  // What a parser has left is for `unwrap` to refuse: it says what to do.
  const body = (kept ?? (req.readableDidRead ? (req.body ?? null) : await bounded(req))) as RawBody | undefined;
  const { status, body: text } = await receive(sz, req.headers, body, handle);
  res.writeHead(status, { "content-type": "text/plain" }).end(text);
}

async function* chunksOf(request: Request): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = request.body?.getReader();
  for (let read = await reader?.read(); read?.value !== undefined; read = await reader?.read()) yield read.value;
}

/** All of it; none where it is too large. What is too large is read to its end and not kept. */
async function bounded(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array | undefined> {
  let kept: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    // A stream of Node gives text where somebody has called its `setEncoding`.
    const bytes = bytesOf(chunk);
    length += bytes.length;
    if (length <= MAX_BODY) kept.push(bytes);
    else kept = [];
  }
  if (length > MAX_BODY) return undefined;
  const body = new Uint8Array(length);
  let at = 0;
  for (const chunk of kept) {
    body.set(chunk, at);
    at += chunk.length;
  }
  return body;
}
