// The SDK's types against those that openapi-typescript makes of the gateway's own document: whatever
// has the same name is the same type, as the compiler sees it. The SDK's are written by hand, so that
// they read well and have their sentences; this is what keeps them from being anything else.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { SenderZ } from "@senderz/sdk";
import openapiTypes, { astToString } from "openapi-typescript";
import { compile } from "./readme.mjs";
import { here, root, run, scratch } from "./support.mjs";

/** By which name the SDK calls a schema where it has another one. */
const RENAMED = { CatchUpPage: "FollowingEvents" };

/** What is meant to differ: members of a type that are compared by themselves, or not at all. */
const APART = {
  // A payload has members that no document names; `WebhookEvent` is compared below.
  StoredEvent: ["payload"],
  DeliveryDetails: ["payload"],
  // `(EventType | "*")[]`, so that what was read can be sent; the gateway refuses `*` beside others.
  NewWebhook: ["events"],
  WebhookPatch: ["events"],
  // Times may be dates, which go out as the text.
  NewReplay: ["since", "until"],
  // Any string: a newer gateway has codes that this SDK does not know.
  Problem: ["code"],
};

/** Which method asks which operation, and by which status it is answered. */
const METHODS = {
  "stats": ["getStats", 200],
  "webhooks.create": ["createWebhook", 201],
  "webhooks.check": ["createWebhook", 200],
  "webhooks.list": ["listWebhooks", 200],
  "webhooks.get": ["getWebhook", 200],
  "webhooks.update": ["updateWebhook", 200],
  "webhooks.checkUpdate": ["updateWebhook", 200],
  "webhooks.delete": ["deleteWebhook", 204],
  "webhooks.stats": ["getWebhookStats", 200],
  "webhooks.test": ["testWebhook", 202],
  "events.send": ["sendEvent", 202],
  "events.sendBatch": ["sendEvents", 202],
  "events.list": ["listEvents", 200],
  "events.after": ["listEvents", 200],
  "events.get": ["getEvent", 200],
  "events.erase": ["eraseEvents", 202],
  "erasures.list": ["listErasures", 200],
  "erasures.get": ["getErasure", 200],
  "audit.list": ["listAuditRecords", 200],
  "deliveries.list": ["listDeliveries", 200],
  "deliveries.get": ["getDelivery", 200],
  "deliveries.replay": ["replayDelivery", 202],
  "deliveries.cancel": ["cancelDelivery", 202],
  "replays.create": ["createReplay", 202],
  "replays.list": ["listReplays", 200],
  "replays.get": ["getReplay", 200],
  "replays.pause": ["pauseReplay", 200],
  "replays.resume": ["resumeReplay", 200],
  "replays.cancel": ["cancelReplay", 200],
};

/** What the SDK leaves to the operator's tools. */
const NOT_ASKED = /^\/(openapi\.json|v1\/(backups|keys|portal|signing-secret|tenants))(?!.*\/events)/;

/** The parameters of the URL, by operation. */
const PARAMS = {
  listWebhooks: "PageParams",
  listEvents: `EventParams & { after?: string }`,
  listDeliveries: "DeliveryParams",
  listReplays: "PageParams",
  listErasures: "PageParams",
  getStats: "StatsParams",
  getWebhookStats: "StatsParams",
  streamAttempts: "StreamParams",
  listAuditRecords: "AuditParams",
};

const HEAD = `
import type { components, operations } from "./openapi.js";
import type * as sdk from "@senderz/sdk";

type Schemas = components["schemas"];
/** Every value of A is one of B's. */
type Fits<A, B> = [A] extends [B] ? true : { this: A; "does not fit": B };
type Same<A, B> = Fits<A, B> & Fits<B, A> & Fits<keyof A, keyof B> & Fits<keyof B, keyof A>;
/** What is asked may be less than what may be asked, member by member. */
type Asks<A, B> = Fits<A, B> & Fits<keyof A, keyof B> & Fits<keyof B, keyof A>;
type Answer<Operation extends keyof operations, Status> = operations[Operation]["responses"] extends { [status in Status & number]: { content: { "application/json": infer Body } } } ? Body : void;
type Result<Method> = Method extends (...given: never[]) => Promise<infer Value> ? Value : "no such method";
/** The answer of a method is one of those that its operation has, no more and no less. */
type OneOf<A, B> = true extends (B extends unknown ? Same<A, B> : never) ? true : { this: A; "is not one of": B };
/** A payload's further members are compared apart, wherever it stands. */
type Plain<A> = A extends { payload: unknown } ? Omit<A, "payload"> : A;
type Query<Operation extends keyof operations> = Required<NonNullable<operations[Operation]["parameters"]["query"]>>;
`;

function theDocument() {
  const binary = process.env.GATEWAY ?? join(root, "target/debug/senderz-gateway");
  return JSON.parse(run(binary, ["openapi"], { env: { PATH: process.env.PATH } }));
}

test("what the SDK says of the API is what the OpenAPI document says", async () => {
  const document = theDocument();
  const folder = scratch("openapi");
  // Without `defaultNonNullable` off, a member with a default would count as always there.
  const types = astToString(await openapiTypes(document, { defaultNonNullable: false }));
  writeFileSync(join(folder, "openapi.ts"), types);

  const source = ["api", "errors"].map((file) => readFileSync(join(here, `../typescript/src/${file}.ts`), "utf8")).join("\n");
  const exported = new Set([...source.matchAll(/^export (?:interface|type) (\w+)/gm)].map(([, name]) => name));
  const named = Object.keys(document.components.schemas)
    .map((schema) => [schema, RENAMED[schema] ?? schema])
    .filter(([, type]) => exported.has(type));
  assert.ok(named.length >= 25, `${named.map(([schema]) => schema)}`);
  const requests = new Set(
    Object.values(document.paths)
      .flatMap((path) => Object.values(path))
      .flatMap((operation) => JSON.stringify(operation.requestBody ?? {}).match(/(?<=schemas\/)\w+/g) ?? []),
  );

  const lines = named.map(([schema, type]) => {
    const apart = (APART[schema] ?? []).map((member) => `"${member}"`).join(" | ") || "never";
    const how = requests.has(schema) ? "Asks" : "Same";
    const [ours, theirs] = [`sdk.${type}`, `Schemas["${schema}"]`].map((one) => (apart === "never" ? one : `Omit<${one}, ${apart}>`));
    return `export const ${schema}: ${how}<${ours}, ${theirs}> = true;`;
  });
  for (const [operation, type] of Object.entries(PARAMS)) {
    const ours = `Required<${type.replace(/\b[A-Z]\w+Params\b/, "sdk.$&")}>`;
    lines.push(`export const ${operation}: Same<keyof ${ours}, keyof Query<"${operation}">> = true;`);
  }
  for (const [method, [operation, status]] of Object.entries(METHODS)) {
    const name = method.split(".").map((part) => `["${part}"]`).join("");
    const [ours, theirs] = [`Plain<Result<sdk.SenderZ${name}>>`, `Plain<Answer<"${operation}", ${status}>>`];
    lines.push(`export const ${method.replace(".", "_")}: OneOf<${ours}, ${theirs}> = true;`);
  }
  lines.push(`export const payload: Fits<sdk.WebhookEvent, Schemas["EventPayload"]> = true;`);
  writeFileSync(join(folder, "agree.ts"), `${HEAD}\n${lines.join("\n")}\n`);
  compile(folder, { noEmit: true });
});

test("every method asks what the document has, and every operation for customers has a method", async () => {
  const document = theDocument();
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, { operationId }]) => (operationId ? [{ path, method, operationId }] : [])),
  );
  const asked = [];
  const fetch = async (url, { method }) => {
    asked.push([method.toLowerCase(), url.pathname]);
    return new Response("{}", { status: 200 });
  };
  const sz = new SenderZ({ apiKey: "szk_tenant_x", baseUrl: "http://localhost", fetch });
  for (const [path, [operationId]] of Object.entries(METHODS)) {
    const [group, name] = path.includes(".") ? path.split(".") : [undefined, path];
    const owner = group === undefined ? sz : sz[group];
    await owner[name](name === "sendBatch" ? [] : group === undefined || name === "list" ? {} : "given", {});
    const { path: template, method } = operations.find((one) => one.operationId === operationId);
    const [sent, pathname] = asked.pop();
    assert.deepEqual([sent, pathname], [method, template.replace(/\{\w+\}/, "given")], path);
  }
  const known = new Set(Object.values(METHODS).map(([operationId]) => operationId).concat("streamAttempts"));
  const missing = operations.filter(({ path, operationId }) => !known.has(operationId) && !NOT_ASKED.test(path));
  assert.deepEqual(missing, []);
  const methods = [sz, sz.webhooks, sz.events, sz.deliveries, sz.replays, sz.erasures, sz.audit].flatMap((owner) =>
    Object.getOwnPropertyNames(Object.getPrototypeOf(owner)).filter((name) => name !== "constructor"),
  );
  // These go through others.
  const [composed, listed] = [["all", "all", "all", "all", "all", "all", "modify", "stream"], Object.keys(METHODS).map((path) => path.split(".").at(-1))];
  assert.deepEqual(methods.sort(), [...listed, ...composed].sort());
});
