/** AWS Lambda behind a function URL, an API Gateway (REST or HTTP) or a load balancer. */

import { fromBase64 } from "../bytes.js";
import type { RequestHeaders } from "../headers.js";
import { receive, type Answer, type Handler, type Receiver } from "../receive.js";

/** What the platforms' events have in common. */
export interface HttpEvent {
  headers?: { [name: string]: string | undefined } | null | undefined;
  multiValueHeaders?: { [name: string]: string[] | undefined } | null | undefined;
  body?: string | null | undefined;
  isBase64Encoded?: boolean | undefined;
}

export function webhook(sz: Receiver, handler: Handler) {
  return async (event: HttpEvent): Promise<{ statusCode: number; body: string }> => {
    const headers: RequestHeaders = event.headers ?? event.multiValueHeaders ?? {};
    const text = event.body ?? "";
    const body = event.isBase64Encoded ? (fromBase64(text) ?? "") : text;
    const { status, body: answer }: Answer = await receive(sz, headers, body, handler);
    return { statusCode: status, body: answer };
  };
}
