// What the tests share: the repository's files, programs that run and end with the test, and waiting
// on a predicate with a limit.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const here = dirname(fileURLToPath(import.meta.url));
export const root = join(here, "../..");
export const modules = join(here, "node_modules");
/** The package as npm would install it: the run unpacked what `npm pack` made. */
export const sdk = join(modules, "@senderz/sdk");
export const read = (path) => readFileSync(join(root, path), "utf8");
export const vectors = JSON.parse(read("sdk/vectors.json"));

/** A folder of the test's own below target/, empty. */
export function scratch(name) {
  const folder = join(root, "target/sdk", name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** The fenced blocks of a document whose info string is this. */
export function fences(document, info) {
  const found = [];
  let open;
  for (const line of read(document).split("\n")) {
    if (open === undefined && line === `\`\`\`${info}`) open = [];
    else if (open !== undefined && line === "```") {
      found.push(`${open.join("\n")}\n`);
      open = undefined;
    } else open?.push(line);
  }
  return found;
}

/** Runs a program to its end; its output. */
export function run(program, args, options = {}) {
  const done = spawnSync(program, args, { encoding: "utf8", maxBuffer: 1 << 28, timeout: 120_000, ...options });
  if (done.error?.code === "ENOENT") throw new Error(`${program} is missing: scripts/test installs it`);
  if (done.status !== 0) {
    throw new Error(`${program} ${args.join(" ")}: ${done.status ?? done.signal}\n${done.stdout}${done.stderr}`);
  }
  return done.stdout;
}

/** A program of one of the platform's packages. */
export function program(path) {
  const file = join(modules, path);
  if (!existsSync(file)) throw new Error(`${path} is missing: npm ci in sdk/test installs it on Linux, x64`);
  return file;
}

/** Waits until the predicate gives something; asks again every few milliseconds, with a limit. */
export async function eventually(what, predicate, seconds = 30) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
    const found = await predicate();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`not within ${seconds} s: ${what}`);
}

/** A program that runs until the test has ended; what it printed so far is its `said`. */
export function start(t, command, args, options = {}) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  const running = { said: "", child };
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (running.said += text));
  const ended = new Promise((resolve) => child.on("close", resolve));
  t.after(() => {
    child.kill("SIGKILL");
    return ended;
  });
  return running;
}

/** A port that was free a moment ago. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

export const OPERATOR_KEY = "szk_operator_test0test0test0test0test0test0test0";

/** The gateway itself, on ports of its own choice, over a directory that goes with the test. */
export async function gateway(t, environment = {}) {
  const binary = process.env.GATEWAY ?? join(root, "target/debug/senderz-gateway");
  if (!existsSync(binary)) throw new Error(`${binary} is missing: cargo build, or say where it is with GATEWAY=`);
  const data = mkdtempSync(join(tmpdir(), "senderz-sdk-"));
  t.after(() => rmSync(data, { recursive: true, force: true }));
  const running = start(t, binary, ["serve"], {
    env: {
      PATH: process.env.PATH,
      SENDERZ_DATA_DIR: data,
      SENDERZ_OPERATOR_KEY: OPERATOR_KEY,
      SENDERZ_SERVER__LISTEN: "127.0.0.1:0",
      SENDERZ_OPS__LISTEN: "127.0.0.1:0",
      SENDERZ_SECURITY__ALLOW_NETWORKS: "127.0.0.0/8",
      SENDERZ_STORE__DISK_HEADROOM: "1MiB",
      SENDERZ_LOG__LEVEL: "warn",
      ...environment,
    },
  });
  const url = (word) =>
    eventually(`the gateway says where its ${word} is; it said: ${running.said}`, () =>
      running.said.match(new RegExp(`^\\s*${word}\\s+(http://[^/\\s]+)`, "m"))?.[1],
    );
  const [api, ops] = [await url("api"), await url("metrics")];
  await eventually("the gateway is ready", async () => {
    const answer = await fetch(`${ops}/readyz`).catch(() => undefined);
    return answer?.ok;
  });
  return { api, running };
}

/** Makes a tenant; the gateway's answer, with its key and its secret. */
export async function tenant(api, id) {
  const answer = await fetch(`${api}/v1/tenants`, {
    method: "POST",
    headers: { authorization: `Bearer ${OPERATOR_KEY}`, "content-type": "application/json" },
    body: JSON.stringify({ id, name: id }),
  });
  if (answer.status !== 201) throw new Error(`${answer.status}: ${await answer.text()}`);
  return answer.json();
}

/** An event of a type, with a message id to know it by. */
export function message(type, id) {
  const data = { id, channel: "sms", recipient: "+15555550100", status_reason: "carrier_rejected" };
  return { type, timestamp: "2026-11-23T04:20:00.123Z", data };
}
