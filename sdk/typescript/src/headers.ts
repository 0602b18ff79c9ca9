/** A request's headers: of `fetch`, of Node, or of a Lambda event. */
export type RequestHeaders =
  | { get(name: string): string | null }
  | { readonly [name: string]: string | readonly string[] | undefined };

/** The value of a header, whatever its letter case; one that came twice is joined as HTTP would. */
export function header(headers: RequestHeaders, name: string): string | undefined {
  if (typeof headers?.get === "function") return headers.get(name) ?? undefined;
  for (const [key, value] of Object.entries(headers)) {
    if (key.toLowerCase() === name && value !== undefined) return joined(value);
  }
  return undefined;
}

export function joined(value: string | readonly string[]): string {
  return typeof value === "string" ? value : value.join(", ");
}

/** Which delivery a request is. */
export interface Delivery {
  /** The event's id, the same on every attempt and replay: what to dedupe by. */
  eventId: string | undefined;
  /** `dlv_…`; like the attempt's number it is not covered by a signature. */
  id: string | undefined;
  /** From 1 on; undefined where the header is not such a number. */
  attempt: number | undefined;
}

export function deliveryOf(headers: RequestHeaders): Delivery {
  const attempt = header(headers, "x-senderz-attempt");
  return {
    eventId: header(headers, "webhook-id"),
    id: header(headers, "x-senderz-delivery"),
    attempt: attempt !== undefined && /^[1-9][0-9]{0,8}$/.test(attempt) ? Number(attempt) : undefined,
  };
}
