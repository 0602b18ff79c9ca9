/** Plain `node:http`: `createServer(webhook(sz, handler))`, or called for the path that is the webhook's. */

import { answer, type Handler, type NodeRequest, type NodeResponse, type Receiver } from "../receive.js";

export function webhook(sz: Receiver, handler: Handler) {
  return (req: NodeRequest, res: NodeResponse): Promise<void> =>
    answer(sz, req, res, handler).catch((error: unknown) => {
      // There is no framework that would, and a promise that nobody catches ends the process.
      console.error(error);
      res.writeHead(500, { "content-type": "text/plain" }).end("the webhook's handler failed\n");
    });
}
