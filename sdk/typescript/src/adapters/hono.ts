/** Hono, on every runtime that it runs on. */

import { respond, type Handler, type Receiver } from "../receive.js";

/** `context` is Hono's own. */
export function webhook<Context extends { req: { raw: Request } }>(
  sz: Receiver | ((context: Context) => Receiver),
  handler: Handler<[context: Context]>,
) {
  return (context: Context): Promise<Response> => {
    const receiver = typeof sz === "function" ? sz(context) : sz;
    return respond(receiver, context.req.raw, (event, delivery) => handler(event, delivery, context));
  };
}
