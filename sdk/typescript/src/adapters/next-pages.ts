/**
 * Next.js, pages router. The file that exports it has to switch the parser off, in these words,
 * because Next reads them without running them: `export const config = { api: { bodyParser: false } }`.
 */

import { answer, type Handler, type NodeRequest, type NodeResponse, type Receiver } from "../receive.js";

export function webhook(sz: Receiver, handler: Handler) {
  return (req: NodeRequest, res: NodeResponse): Promise<void> => answer(sz, req, res, handler);
}
