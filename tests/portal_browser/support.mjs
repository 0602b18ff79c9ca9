// A gateway, a receiver that does as it is told, and a browser that keeps account of all that must
// not happen.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const KEY = "szk_operator_test0test0test0test0test0test0test0";
const BINARY = process.env.GATEWAY ?? new URL("../../target/debug/senderz-gateway", import.meta.url).pathname;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

// Waits for a predicate, with a limit.
export async function eventually(what, probe, limit = 30_000) {
  const deadline = performance.now() + limit;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (performance.now() > deadline) throw new Error(`not within ${limit} ms: ${what}`);
    await new Promise((go) => setTimeout(go, 25));
  }
}

export async function gateway(env = {}) {
  const data = mkdtempSync(join(tmpdir(), "senderz-portal-"));
  const child = spawn(BINARY, ["serve"], {
    env: {
      PATH: process.env.PATH,
      SENDERZ_DATA_DIR: data,
      SENDERZ_OPERATOR_KEY: KEY,
      SENDERZ_SERVER__LISTEN: "127.0.0.1:0",
      SENDERZ_OPS__LISTEN: "127.0.0.1:0",
      SENDERZ_SECURITY__ALLOW_NETWORKS: "127.0.0.0/8",
      SENDERZ_LOG__LEVEL: "warn",
      SENDERZ_STORE__DISK_HEADROOM: "1MiB",
      SENDERZ_RETRY__SCHEDULE: "100ms,200ms",
      ...env,
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const base = await new Promise((found, failed) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      const [word, url] = line.trim().split(/\s+/);
      if (word === "api") found(url);
    });
    child.on("exit", (code) => failed(new Error(`the gateway ended with ${code}`)));
  });
  const ask = async (method, path, { tenant, body, key = KEY, type = "application/json" } = {}) => {
    const headers = { authorization: `Bearer ${key}` };
    if (tenant) headers["senderz-tenant"] = tenant;
    if (body !== undefined) headers["content-type"] = type;
    const text = typeof body === "string" || body === undefined ? body : JSON.stringify(body);
    const answer = await fetch(base + path, { method, headers, body: text });
    const content = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${content}`);
    return content ? JSON.parse(content) : null;
  };
  return {
    base,
    key: KEY,
    ask,
    event: (tenant, type, data = {}) =>
      ask("POST", `/v1/tenants/${tenant}/events`, {
        body: {
          type,
          timestamp: "2026-11-23T04:20:00.123Z",
          data: { id: "msg_1", channel: "sms", recipient: "+15555550100", status_reason: "carrier_rejected", ...data },
        },
      }),
    delivery: (tenant, id) => ask("GET", `/v1/deliveries/${id}`, { tenant }),
    ended: (tenant, count) =>
      eventually(`${count} deliveries ended`, async () => {
        const page = await ask("GET", "/v1/deliveries?limit=100", { tenant });
        const open = page.data.filter((one) => ["pending", "retrying"].includes(one.status));
        return page.data.length >= count && open.length === 0 && page.data;
      }),
    async stop() {
      child.removeAllListeners("exit");
      const gone = new Promise((done) => child.on("exit", done));
      child.kill("SIGTERM");
      await gone;
      rmSync(data, { recursive: true });
    },
  };
}

// Answers what `answers` has for the path: a status, or a function that writes the answer.
export async function receiver() {
  const answers = new Map();
  const server = createServer((request, response) => {
    request.resume().on("end", () => {
      const answer = answers.get(request.url) ?? 200;
      if (typeof answer === "function") return answer(request, response);
      response.writeHead(answer, { "content-type": "text/plain" }).end(answer === 200 ? "ok" : "no");
    });
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    answers,
    stop: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

export const browser = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // In containers and for root there is no sandbox to be had; only our own pages are opened.
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
  });

// A context whose pages note what must not happen: dialogs, console errors, requests to another
// host, and whatever the policy had to stop.
export async function watched(browser, base, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  context.setDefaultTimeout(15_000);
  const wrong = [];
  await context.addInitScript({ content: `${AXE}
    document.addEventListener("securitypolicyviolation", (event) => console.error("policy:", event.violatedDirective, event.blockedURI));` });
  context.on("dialog", (dialog) => {
    wrong.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  context.on("console", (line) => {
    // The browser reports answers that are refusals as errors of its own.
    const isRefusal = /Failed to load resource: the server responded with a status of 4\d\d/.test(line.text());
    if (["error", "warning"].includes(line.type()) && !isRefusal) wrong.push(`console: ${line.text()}`);
  });
  context.on("weberror", (error) => wrong.push(`error: ${error.error()}`));
  context.on("request", (request) => {
    if (!request.url().startsWith(base) && !request.url().startsWith("data:")) wrong.push(`request: ${request.url()}`);
  });
  return { context, wrong };
}

export async function logIn(context, base, key) {
  const page = await context.newPage();
  await page.goto(`${base}/portal/`);
  await page.getByLabel("API key").fill(key);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL((url) => !url.pathname.includes("login"));
  return page;
}

// What axe finds, in words.
export async function axe(page) {
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 160)).join(" | ")}`);
}
