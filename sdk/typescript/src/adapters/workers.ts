/** Cloudflare Workers, without any compatibility flag. The secret is a binding, so it comes with a request. */

import { respond, type Handler, type Receiver } from "../receive.js";

export function webhook<Env, Context>(
  sz: (env: Env) => Receiver,
  handler: Handler<[env: Env, context: Context]>,
) {
  return {
    fetch: (request: Request, env: Env, context: Context): Promise<Response> =>
      respond(sz(env), request, (event, delivery) => handler(event, delivery, env, context)),
  };
}
