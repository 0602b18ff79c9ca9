/** The stream of attempts (Server-Sent Events): read, and resumed where it breaks. */

import type * as api from "./api.js";
import { ApiError } from "./errors.js";
import { LONGEST_WAIT, pause, type CallOptions, type Http } from "./http.js";

export interface StreamOptions extends CallOptions {
  /** Begins behind the event with this `id`; now where not said. */
  lastEventId?: string | undefined;
}

/** Seconds. The gateway says something every 15 where it is left as it is. */
const SILENCE = 60;
/** Seconds before a broken connection is made again, and the most that they grow to. */
const FIRST_WAIT = 1;
const MAX_WAIT = 30;

/** What stands between two empty lines. */
interface Block {
  event?: string;
  id?: string;
  data?: string;
}

export async function* stream(
  http: Http,
  params: api.StreamParams | undefined,
  options: StreamOptions = {},
): AsyncGenerator<api.StreamEvent, void, undefined> {
  const { signal } = options;
  let { lastEventId } = options;
  let hasBegun = false;
  for (let failures = 0; ; failures++) {
    let wait: number | undefined;
    try {
      for await (const { event, id, data } of blocks(http, params, lastEventId, signal)) {
        hasBegun = true;
        failures = 0;
        lastEventId = id ?? lastEventId;
        if (data !== undefined && lastEventId !== undefined && (event === "attempt" || event === "lagged")) {
          yield { type: event, id: lastEventId, data: JSON.parse(data) } as api.StreamEvent;
        }
      }
    } catch (error) {
      signal?.throwIfAborted();
      // What never was a stream is refused as any other request is.
      const may = hasBegun || (error instanceof ApiError && failures < http.maxRetries);
      if (!may || (error instanceof ApiError && !isTransient(error))) throw error;
      if (error instanceof ApiError) wait = error.retryAfter;
    }
    const grown = Math.min(FIRST_WAIT * 2 ** failures, MAX_WAIT) * (0.5 + Math.random() / 2);
    await pause(wait ?? grown, signal);
  }
}

function isTransient({ status, retryAfter = 0 }: ApiError): boolean {
  return (status === 429 || status >= 500) && retryAfter <= LONGEST_WAIT;
}

/** The blocks of one connection, until it ends, breaks or falls silent. */
async function* blocks(
  http: Http,
  params: api.StreamParams | undefined,
  lastEventId: string | undefined,
  signal: AbortSignal | undefined,
): AsyncGenerator<Block, void, undefined> {
  const connection = new AbortController();
  const give = () => connection.abort(signal?.reason);
  if (signal?.aborted) give();
  signal?.addEventListener("abort", give);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const listen = () => {
    clearTimeout(timer);
    timer = setTimeout(() => connection.abort(new DOMException("the stream fell silent", "TimeoutError")), SILENCE * 1000);
  };
  try {
    listen();
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (lastEventId !== undefined) headers["last-event-id"] = lastEventId;
    const response = await http.open("/v1/stream", { query: params, headers, signal: connection.signal });
    if (!response.body) return;
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let [text, block]: [string, Block] = ["", {}];
    for (;;) {
      const { done, value } = await reader.read();
      // A block that is cut off was never said.
      if (done) return;
      listen();
      text += decoder.decode(value, { stream: true });
      const lines = text.split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) {
        if (line === "" || line === "\r") {
          yield block;
          block = {};
        } else read(block, line.replace(/\r$/, ""));
      }
    }
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", give);
    // Whoever leaves the loop leaves the connection.
    connection.abort();
  }
}

function read(block: Block, line: string): void {
  const [, name, value = ""] = /^([^:]*)(?:: ?(.*))?$/.exec(line) ?? [];
  if (name === "event" || name === "id") block[name] = value;
  if (name === "data") block.data = block.data === undefined ? value : `${block.data}\n${value}`;
}
