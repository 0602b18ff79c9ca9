// What npm would publish: its files, its formats, its types, and that the README's promises about
// size hold.
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { RECEIVERS, compile, receiver } from "./readme.mjs";
import { fences, here, read, root, run, scratch, sdk } from "./support.mjs";

const manifest = JSON.parse(readFileSync(join(sdk, "package.json"), "utf8"));
const tarball = join(root, "target/sdk/pack/senderz-sdk.tgz");
const bin = (name) => join(here, "../typescript/node_modules/.bin", name);
const files = readdirSync(sdk, { recursive: true }).filter((file) => statSync(join(sdk, file)).isFile());
const sources = readdirSync(join(here, "../typescript/src"), { recursive: true }).filter((file) => file.endsWith(".ts"));

test("the package holds the compiled sources, the manifest and the README, and nothing else", () => {
  const compiled = (format) => [
    `dist/${format}/package.json`,
    ...sources.flatMap((file) => [".js", ".d.ts"].map((end) => `dist/${format}/${file.replace(/\.ts$/, end)}`)),
  ];
  assert.deepEqual(files.sort(), ["README.md", "package.json", ...compiled("cjs"), ...compiled("esm")].sort());
  const packed = run("tar", ["-tzf", tarball]).trim().split("\n").map((file) => file.replace("package/", ""));
  assert.deepEqual(packed.sort(), files.sort());
  assert.ok(statSync(tarball).size < 60_000, `${statSync(tarball).size} bytes`);
});

test("it imports nothing but itself", () => {
  for (const kind of ["dependencies", "peerDependencies", "optionalDependencies", "bundledDependencies"]) {
    assert.equal(manifest[kind], undefined, kind);
  }
  for (const file of files.filter((file) => file.endsWith(".js"))) {
    const code = readFileSync(join(sdk, file), "utf8");
    for (const [, from] of code.matchAll(/(?:from|require\(|import\()\s*"([^"]+)"/g)) {
      assert.match(from, /^\.\.?\//, `${file} imports ${from}`);
    }
  }
});

test("every subpath loads in both formats and gives the same", async () => {
  const require = createRequire(import.meta.url);
  const paths = Object.keys(manifest.exports).filter((path) => path !== "./package.json");
  assert.equal(paths.length, 1 + RECEIVERS.length);
  for (const path of paths) {
    const name = path.replace(".", "@senderz/sdk");
    const [esm, cjs] = [await import(name), require(name)];
    assert.deepEqual(Object.keys(esm).sort(), Object.keys(cjs).filter((key) => key !== "__esModule").sort(), name);
    assert.ok(Object.keys(esm).length > 0, name);
  }
});

test("an error of one format is known by an adapter of the other", async () => {
  const { SenderZ } = createRequire(import.meta.url)("@senderz/sdk");
  const { webhook } = await import("@senderz/sdk/fetch");
  const sz = new SenderZ({ webhookSecret: `whsec_${Buffer.alloc(32).toString("base64")}` });
  const request = new Request("http://localhost/", { method: "POST", body: "{}" });
  assert.equal((await webhook(sz, () => assert.fail())(request)).status, 401);
});

test("publint and are-the-types-wrong find nothing", () => {
  run(bin("publint"), ["run", tarball, "--strict"]);
  run(bin("attw"), [tarball, "--no-color"]);
});

test("adapters have at most thirty lines, receivers fewer than ten", () => {
  for (const file of sources.filter((file) => file.startsWith("adapters/"))) {
    const lines = read(`sdk/typescript/src/${file}`).trimEnd().split("\n").length;
    assert.ok(lines <= 30, `${file}: ${lines}`);
  }
  for (const name of RECEIVERS) {
    const lines = receiver(name).split("\n").filter((line) => line.trim() !== "").length;
    assert.ok(lines < 10, `${name}: ${lines}`);
  }
});

const TYPES = `
import { SenderZ, WebhookVerificationError, type EventType, type WebhookEvent } from "@senderz/sdk";

const sz = new SenderZ({ apiKey: "k", webhookSecret: ["whsec_a", "whsec_b"], baseUrl: "http://localhost" });
const valid: boolean = sz.webhooks.verify("signature", new Uint8Array());
sz.webhooks.verify(undefined, new ArrayBuffer(0));
// @ts-expect-error: a parsed object is no body
sz.webhooks.verify("signature", { type: "message.sent" });
// @ts-expect-error: swapped
sz.webhooks.verify(new Uint8Array(), "signature");
// @ts-expect-error: the options are closed
new SenderZ({ secret: "whsec_" });
// @ts-expect-error: one of the six, or *
void sz.webhooks.create({ url: "", events: ["message.gone"] });
// @ts-expect-error: a closed list
void sz.deliveries.list({ status: "done" });

export function told(event: WebhookEvent): string {
  const id: string = event.data.id;
  switch (event.type) {
    case "message.failed":
    case "message.blocked":
      return event.data.status_reason.toUpperCase();
    case "message.sent":
      // @ts-expect-error: only what failed has a reason for certain
      return event.data.status_reason.toUpperCase();
    case "message.delivered":
    case "message.inbound":
    case "message.read":
      return id + event.timestamp + String(event.data["text"]);
    default:
      return event satisfies never;
  }
}

export const type: EventType = sz.webhooks.unwrap(new Headers(), "", { tolerance: 10 }).type;
export const code = (error: unknown): string => (error instanceof WebhookVerificationError ? error.code : String(valid));
`;

/** What the README's receivers do not show. */
const FRAMEWORKS = `
import type { ALBHandler, APIGatewayProxyHandler, APIGatewayProxyHandlerV2, LambdaFunctionURLHandler } from "aws-lambda";
import type { RequestHandler } from "express";
import Fastify, { type FastifyPluginAsync } from "fastify";
import { createSecureServer } from "node:http2";
import { Hono, type Context } from "hono";
import { SenderZ } from "@senderz/sdk";
import { webhook as express } from "@senderz/sdk/express";
import { webhook as fastify } from "@senderz/sdk/fastify";
import { webhook as hono } from "@senderz/sdk/hono";
import { webhook as lambda } from "@senderz/sdk/lambda";
import { webhook as node } from "@senderz/sdk/node";
import { webhook as workers } from "@senderz/sdk/workers";

const sz = new SenderZ();
export const aws: ALBHandler & APIGatewayProxyHandler & APIGatewayProxyHandlerV2 & LambdaFunctionURLHandler = lambda(sz, () => {});
export const middleware: RequestHandler = express(sz, () => {});
export const plugin: FastifyPluginAsync = fastify(sz, "/hook", () => {});
Fastify({ http2: true }).register(fastify(sz, "/hook", () => {}), { prefix: "/v1" });
createSecureServer(node(sz, () => {}));

interface Env { WEBHOOK_SECRET: string; seen: Map<string, true> }
const app = new Hono<{ Bindings: Env }>();
app.post("/hook", hono(
  (c: Context<{ Bindings: Env }>) => new SenderZ({ webhookSecret: c.env.WEBHOOK_SECRET }),
  (event, _delivery, c) => c.env.seen.has(event.type),
));
export default workers(
  (env: Env) => new SenderZ({ webhookSecret: env.WEBHOOK_SECRET }),
  async (event, { eventId, attempt }, env) => env.seen.set(eventId + event.type + (attempt ?? 0), true),
);
`;

/** What the README's other examples take for granted. */
const AROUND = [
  (code) => `${code}\ndeclare const signature: string | undefined, body: Uint8Array;\nexport { valid };`,
  (code) => `
import type { WebhookEvent } from "@senderz/sdk";
declare function alarm(recipient: string, reason: string): void;
declare function reply(recipient: string): void;
export function handle(event: WebhookEvent): void {\n${code}}`,
  (code) => `
import { SenderZ, type WebhookDisabled, type WebhookEvent } from "@senderz/sdk";
import { webhook } from "@senderz/sdk/express";
const sz = new SenderZ();
${code}
export { told };`,
  (code) => `import { SenderZ } from "@senderz/sdk";\n${code}`,
  (code) => `import { SenderZ } from "@senderz/sdk";\nconst sz = new SenderZ();\n${code}`,
];

test("the README's examples are what the types allow", () => {
  const folder = scratch("examples");
  const blocks = fences("sdk/typescript/README.md", "ts");
  assert.equal(blocks.length, AROUND.length);
  for (const [index, block] of blocks.entries()) writeFileSync(join(folder, `${index}.mts`), AROUND[index](block));
  compile(folder, { noEmit: true });
});

/** Without the DOM's types, as servers have it: those of Node, of Workers, of a bundler. */
const TYPES_OF = {
  node: { lib: ["ES2022"], types: ["node"] },
  workers: { lib: ["ES2022"], types: ["@cloudflare/workers-types"], module: "esnext", moduleResolution: "bundler" },
};

test("the types need those of one runtime and no other", () => {
  for (const [runtime, options] of Object.entries(TYPES_OF)) {
    const folder = scratch(`types-${runtime}`);
    const adapters = RECEIVERS.map((name, index) => `export * as _${index} from "@senderz/sdk/${name}";`);
    writeFileSync(join(folder, "all.mts"), [`export * from "@senderz/sdk";`, ...adapters].join("\n"));
    if (runtime === "workers") {
      writeFileSync(join(folder, "worker.mts"), receiver("workers").replace(/;\s*$/, " satisfies ExportedHandler<{ WEBHOOK_SECRET: string }>;\n"));
    }
    compile(folder, { ...options, noEmit: true, skipLibCheck: false });
  }
});

test("the types say what is right and refuse what is not, in both formats", () => {
  const folder = scratch("types");
  writeFileSync(join(folder, "esm.mts"), TYPES);
  writeFileSync(join(folder, "cjs.cts"), TYPES);
  writeFileSync(join(folder, "frameworks.mts"), FRAMEWORKS);
  compile(folder, { noEmit: true });
});
