// The SDK's types against those that openapi-typescript makes of the gateway's own document: whatever
// has the same name is the same type, as the compiler sees it. The SDK's are written by hand, so that
// they read well and have their sentences; this is what keeps them from being anything else.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
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
};

/** The parameters of the URL, by operation. */
const PARAMS = {
  listWebhooks: "PageParams",
  listEvents: `EventParams & { after?: string }`,
  listDeliveries: "DeliveryParams",
  listReplays: "PageParams",
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
type Query<Operation extends keyof operations> = Required<NonNullable<operations[Operation]["parameters"]["query"]>>;
`;

test("what the SDK says of the API is what the OpenAPI document says", async () => {
  const binary = process.env.GATEWAY ?? join(root, "target/debug/senderz-gateway");
  const document = JSON.parse(run(binary, ["openapi"], { env: { PATH: process.env.PATH } }));
  const folder = scratch("openapi");
  // Without `defaultNonNullable` off, a member with a default would count as always there.
  const types = astToString(await openapiTypes(document, { defaultNonNullable: false }));
  writeFileSync(join(folder, "openapi.ts"), types);

  const source = readFileSync(join(here, "../typescript/src/api.ts"), "utf8");
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
  lines.push(`export const payload: Fits<sdk.WebhookEvent, Schemas["EventPayload"]> = true;`);
  writeFileSync(join(folder, "agree.ts"), `${HEAD}\n${lines.join("\n")}\n`);
  compile(folder, { noEmit: true });
});
