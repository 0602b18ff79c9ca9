/** Express 4 and 5, and anything else with `(req, res, next)`. Mount it before any body parser. */

import { answer, type Handler, type NodeRequest, type NodeResponse, type Receiver } from "../receive.js";

export function webhook(sz: Receiver, handler: Handler) {
  return (req: NodeRequest, res: NodeResponse, next: (error?: unknown) => void): void => {
    answer(sz, req, res, handler).catch(next);
  };
}
