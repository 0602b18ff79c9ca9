/** Requests to the API: who asks, what is refused, and when it is asked again. */

import { ApiError, type Problem } from "./errors.js";

export interface ClientOptions {
  /** `szk_tenant_…`, or an operator's or a producer's key. */
  apiKey?: string | undefined;
  /** Where the gateway's API is: `https://webhooks.example.com`. */
  baseUrl?: string | undefined;
  /** For which tenant an operator's key acts. */
  tenant?: string | undefined;
  /** How often a request that was answered 429 or 503 is made again; 3 where not said. */
  maxRetries?: number | undefined;
  /** Seconds for one request, its answer read whole; 30 where not said. `Infinity` sets no limit. */
  timeout?: number | undefined;
  /** Another `fetch`. */
  fetch?: typeof fetch | undefined;
}

export interface CallOptions {
  /** Ends the request, and the waiting between two. */
  signal?: AbortSignal | undefined;
  /** Makes a POST safe to repeat: the same request with the same key within 24 hours is done once. */
  idempotencyKey?: string | undefined;
}

/** One parameter of the URL; a list goes out with commas. */
export type Param = string | number | Date | readonly string[] | undefined;

export interface Call extends CallOptions {
  query?: object | undefined;
  body?: unknown;
  /** In place of a body: one JSON text a line. */
  lines?: readonly unknown[];
  headers?: Record<string, string>;
}

/** Seconds. A longer `Retry-After` than this is the caller's to wait for. */
export const LONGEST_WAIT = 60;
const FIRST_WAIT = 0.5;
/** Milliseconds: a timer that is set for longer goes off at once. */
const LONGEST_TIMER = 2 ** 31 - 1;

interface Answer {
  status: number;
  headers: Headers;
  text: string;
}

const NOT_JSON = Symbol("not JSON");

export class Http {
  readonly #options: ClientOptions;

  constructor(options: ClientOptions) {
    this.#options = options;
  }

  /**
   * Asks, and asks again where the answer is 429 or 503: the gateway means by both that it did not do
   * it. Other failures are thrown as they are, because the request may have been carried out.
   */
  async ask<T>(method: string, path: string, call: Call = {}): Promise<T> {
    return (await this.askTagged<T>(method, path, call)).value;
  }

  /** The same, with the answer's `ETag`. */
  async askTagged<T>(method: string, path: string, call: Call = {}): Promise<{ value: T; tag: string | null }> {
    const url = this.#url(path, call.query);
    const retries = this.maxRetries;
    for (let made = 0; ; made++) {
      const answer = await this.#fetch(method, url, call);
      const json = parsed(answer.text);
      if (answer.status >= 200 && answer.status < 300 && json !== NOT_JSON) {
        return { value: json as T, tag: answer.headers.get("etag") };
      }
      const error = refusal(answer, json);
      const wait = error.retryAfter ?? FIRST_WAIT * 2 ** made * (0.5 + Math.random());
      const again = error.status === 429 || error.status === 503;
      if (!again || made >= retries || wait > LONGEST_WAIT) throw error;
      await pause(wait, call.signal);
    }
  }

  /** An answer that goes on: its body is the caller's to read, and the call's signal ends it. Asked once. */
  async open(path: string, call: Call): Promise<Response> {
    const response = await this.#send("GET", this.#url(path, call.query), call, call.signal);
    if (response.ok) return response;
    const answer = { status: response.status, headers: response.headers, text: await response.text() };
    throw refusal(answer, parsed(answer.text));
  }

  /** How often a refusal that asks for it is answered by asking again. */
  get maxRetries(): number {
    return this.#options.maxRetries ?? 3;
  }

  async #send(method: string, url: URL, call: Call, signal: AbortSignal | undefined): Promise<Response> {
    const { apiKey, tenant, fetch: given } = this.#options;
    if (!apiKey) throw new TypeError("there is no apiKey to ask with: new SenderZ({ apiKey: 'szk_…' })");
    const key = apiKey.trim();
    // `fetch` would refuse the header by an error that shows it.
    if (!/^[\x21-\x7e]+$/.test(key)) throw new TypeError("the apiKey is cut or altered: it has letters, digits and _ only");
    const headers: Record<string, string> = { authorization: `Bearer ${key}`, accept: "application/json" };
    if (tenant !== undefined) headers["senderz-tenant"] = tenant;
    const repeatable = method === "POST" || (method === "DELETE" && url.pathname.endsWith("/v1/events"));
    if (repeatable && call.idempotencyKey !== undefined) headers["idempotency-key"] = call.idempotencyKey;
    Object.assign(headers, call.headers);
    const { type, body } = content(call);
    if (type !== undefined) headers["content-type"] = type;
    // Redirects would carry the key elsewhere.
    return (given ?? fetch)(url, { method, headers, body, redirect: "manual", signal: signal ?? null });
  }

  async #fetch(method: string, url: URL, call: Call): Promise<Answer> {
    const { timeout = 30 } = this.#options;
    const deadline = new AbortController();
    const give = () => deadline.abort(call.signal?.reason);
    const timer = setTimeout(
      () => deadline.abort(new DOMException(`no answer in ${timeout} s`, "TimeoutError")),
      Math.min(timeout * 1000, LONGEST_TIMER),
    );
    call.signal?.addEventListener("abort", give);
    try {
      call.signal?.throwIfAborted();
      const response = await this.#send(method, url, call, deadline.signal);
      // The deadline covers the body too.
      return { status: response.status, headers: response.headers, text: await response.text() };
    } finally {
      clearTimeout(timer);
      call.signal?.removeEventListener("abort", give);
    }
  }

  #url(path: string, query: object = {}): URL {
    const { baseUrl } = this.#options;
    if (!baseUrl) throw new TypeError("there is no baseUrl to ask: new SenderZ({ baseUrl: 'https://…' })");
    const url = new URL(baseUrl.replace(/\/+$/, "") + path);
    for (const [name, value] of Object.entries(query) as [string, Param][]) {
      if (value === undefined) continue;
      url.searchParams.set(name, value instanceof Date ? value.toISOString() : String(value));
    }
    return url;
  }
}

function content({ body, lines }: Call): { type?: string; body: string | null } {
  if (lines !== undefined) {
    return { type: "application/x-ndjson", body: lines.map((line) => JSON.stringify(line)).join("\n") };
  }
  return body === undefined ? { body: null } : { type: "application/json", body: JSON.stringify(body) };
}

/** A part of a path. An empty id or `..` would name another route. */
export function segment(id: string): string {
  if (typeof id === "string" && /^[A-Za-z0-9_-]+$/.test(id)) return id;
  throw new TypeError("an id has letters, digits, _ and - only, and is not empty");
}

/** All pages, one after the other. */
export async function* all<T>(
  list: (cursor: string | undefined) => Promise<{ data: T[]; next_cursor: string | null }>,
): AsyncGenerator<T, void, undefined> {
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page = await list(cursor);
    yield* page.data;
    cursor = page.next_cursor;
  }
}

/** Nothing at all is an answer too: 204 has no body. */
function parsed(text: string): unknown {
  try {
    return text === "" ? undefined : JSON.parse(text);
  } catch {
    return NOT_JSON;
  }
}

function refusal({ status, headers }: Answer, json: unknown): ApiError {
  const detail = "the answer is not the gateway's: is baseUrl where its API is?";
  const problem = typeof json === "object" && json !== null ? json : json === NOT_JSON ? { detail } : {};
  const requestId = headers.get("x-request-id") ?? undefined;
  return new ApiError(status, problem as Partial<Problem>, retryAfter(headers), requestId);
}

/** Seconds, from either form of the header (RFC 9110, section 10.2.3). */
function retryAfter(headers: Headers): number | undefined {
  const value = headers.get("retry-after")?.trim();
  if (!value) return undefined;
  if (/^\d{1,9}$/.test(value)) return Number(value);
  // `Date.parse` takes "-1" and "1.5" for dates of long ago.
  const until = /^[A-Z][a-z]+, .* GMT$/.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(until) ? undefined : Math.max(0, (until - Date.now()) / 1000);
}

export function pause(seconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const give = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", give);
      resolve();
    }, seconds * 1000);
    if (signal?.aborted) give();
    signal?.addEventListener("abort", give, { once: true });
  });
}
