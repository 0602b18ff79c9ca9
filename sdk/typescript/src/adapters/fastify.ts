/** Fastify 4 and 5, as a plugin: the raw body is kept inside it, other routes parse as before. */

import { receive, type Handler, type NodeRequest, type Receiver } from "../receive.js";

type Done = (error: Error | null, body?: unknown) => void;
type Reply = { code(status: number): { send(body: string): unknown } };

/** What the plugin needs of Fastify. */
export interface Server {
  removeAllContentTypeParsers(): unknown;
  addContentTypeParser(
    type: string,
    options: { parseAs: "buffer" },
    parse: (request: never, body: Uint8Array, done: Done) => void,
  ): unknown;
  post(path: string, handle: (request: Pick<NodeRequest, "headers"> & { body: unknown }, reply: Reply) => unknown): unknown;
}

export function webhook(sz: Receiver, path: string, handler: Handler) {
  return async (server: Server): Promise<void> => {
    server.removeAllContentTypeParsers();
    server.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
    server.post(path, async (request, reply) => {
      const body = (request.body ?? "") as Uint8Array;
      const { status, body: text } = await receive(sz, request.headers, body, handler);
      return reply.code(status).send(text);
    });
  };
}
