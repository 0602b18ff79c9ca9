/** Whatever calls a handler with a `Request` and takes a `Response`: Bun, Deno, SvelteKit, Remix, … */

import { respond, type Handler, type Receiver } from "../receive.js";

export function webhook(sz: Receiver, handler: Handler) {
  return (request: Request): Promise<Response> => respond(sz, request, handler);
}
