// The examples of docs/verify.md, cut out of it and held to the vectors; and the published libraries
// of Standard Webhooks, which are not ours.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Webhook } from "standardwebhooks";
import { bytesOf } from "./agree.mjs";
import { fences, here, read, root, run, scratch, vectors } from "./support.mjs";

const base64 = (bytes) => Buffer.from(bytes).toString("base64");
const bodies = Object.fromEntries(Object.entries(vectors.bodies).map(([name, body]) => [name, bytesOf(body)]));

/** One secret and the header X-Senderz-Signature: what an example can be asked. */
const hexCases = vectors.verify.filter((one) => one.scheme === "hex" && one.secrets.length === 1 && !one.strict);

/** A line for each case: secret, header and body, the last two in base64; the answer is a line too. */
const questions = hexCases
  .map((one) => [vectors.secrets[one.secrets[0]], base64(one.signature), base64(bodies[one.body])].join("\t"))
  .join("\n");

function judge(said) {
  const verdicts = said.trim().split("\n");
  const wrong = hexCases.filter((one, index) => verdicts[index] !== String(one.expect === "valid"));
  assert.deepEqual(wrong.map((one) => one.name), []);
  assert.equal(verdicts.length, hexCases.length);
  assert.ok(hexCases.length > 40, `${hexCases.length}`);
}

/** Language, the file's name, what stands before the example and after it, and how it is run. */
const LANGUAGES = [
  {
    language: "python",
    file: "verify.py",
    after: `
import base64, sys
for line in sys.stdin:
    secret, header, body = line.rstrip("\\n").split("\\t")
    print(str(verify(secret, base64.b64decode(body), base64.b64decode(header).decode())).lower())
`,
    command: ["python3", "verify.py"],
  },
  {
    language: "go",
    file: "verify.go",
    before: "package main\n\n",
    beside: {
      "main.go": `package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		parts := strings.Split(lines.Text(), "\\t")
		header, _ := base64.StdEncoding.DecodeString(parts[1])
		body, _ := base64.StdEncoding.DecodeString(parts[2])
		fmt.Println(Verify(parts[0], body, string(header)))
	}
}
`,
    },
    command: ["go", "run", "verify.go", "main.go"],
  },
  {
    language: "php",
    file: "verify.php",
    before: "<?php\n",
    after: `
while (($line = fgets(STDIN)) !== false) {
    [$secret, $header, $body] = explode("\\t", rtrim($line, "\\n"));
    echo verify($secret, base64_decode($body), base64_decode($header)) ? "true\\n" : "false\\n";
}
`,
    command: ["php", "verify.php"],
  },
  {
    language: "ruby",
    file: "verify.rb",
    after: `
STDIN.each_line do |line|
  secret, header, body = line.chomp.split("\\t", -1).each_with_index.map { |s, i| i.zero? ? s : s.unpack1("m") }
  puts verify(secret, body, header)
end
`,
    command: ["ruby", "verify.rb"],
  },
  {
    language: "sh",
    file: "verify.sh",
    after: `
while IFS="$(printf '\\n')" read -r line; do
  WEBHOOK_SECRET=$(printf %s "$line" | cut -f 1)
  header=$(printf %s "$line" | cut -f 2 | base64 -d)
  if printf %s "$line" | cut -f 3 | base64 -d | verify "$header"; then echo true; else echo false; fi
done
`,
    command: ["sh", "verify.sh"],
  },
];

for (const { language, file, before = "", after = "", beside = {}, command } of LANGUAGES) {
  test(`the ${language} example of docs/verify.md agrees with the vectors`, () => {
    const blocks = fences("docs/verify.md", `${language} run`);
    assert.equal(blocks.length, 1, "one example is marked");
    const cwd = scratch(`example-${language}`);
    writeFileSync(join(cwd, file), before + blocks[0] + after);
    for (const [name, text] of Object.entries(beside)) writeFileSync(join(cwd, name), text);
    // Go keeps what it compiled of its library for the next run.
    const env = { ...process.env, GOCACHE: join(root, "target/sdk/go-cache"), GOPATH: join(cwd, "go"), GO111MODULE: "off" };
    const [program, ...args] = command;
    judge(run(program, args, { cwd, env, input: `${questions}\n` }));
  });
}

/** The applications for frameworks, whole as they stand there, asked by the frameworks' own clients. */
for (const framework of ["fastapi", "flask"]) {
  test(`the ${framework} receiver of docs/verify.md agrees with the vectors`, () => {
    const blocks = fences("docs/verify.md", `python framework=${framework}`);
    assert.equal(blocks.length, 1, "one example is marked");
    const cwd = scratch(`example-${framework}`);
    writeFileSync(join(cwd, "receiver.py"), blocks[0]);
    const python = join(root, "target/sdk/venv/bin/python");
    const env = { PATH: process.env.PATH, PYTHONPATH: cwd, WEBHOOK_SECRET: vectors.secrets.new };
    judge(run(python, [join(here, "frameworks_pypi.py"), framework], { cwd, env, input: `${questions}\n` }));
  });
}

test("every example that receivers are shown is one that is run or compared", () => {
  const shown = read("docs/verify.md").split("## Without one")[1].split("\n## ")[0];
  const kinds = [...shown.matchAll(/\n### .*\n[^]*?\n```(.*)\n/g)].map(([, kind]) => kind);
  assert.equal(kinds.length, shown.match(/\n### /g).length);
  const run = LANGUAGES.map(({ language }) => `${language} run`);
  const frameworks = ["fastapi", "flask"].map((name) => `python framework=${name}`);
  // Rust's is compared with the one that tests/vectors runs.
  assert.deepEqual(kinds.toSorted(), [...run, ...frameworks, "rust"].toSorted());
});

/** Signed now, because a library that is not ours asks the real clock. */
async function signedNow() {
  const { createHmac } = await import("node:crypto");
  const timestamp = Math.floor(Date.now() / 1000);
  const key = Buffer.from(vectors.secrets.new.slice(6), "base64");
  const sign = (id, body) => `v1,${createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64")}`;
  return { timestamp, sign };
}

test("the published library says what the vectors say", (t) => {
  // It asks the clock, has one tolerance, and gives what the body parses to.
  const isJson = ({ body }) => {
    try {
      return typeof JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bodies[body])) === "object";
    } catch {
      return false;
    }
  };
  const cases = vectors.verify.filter((one) => one.scheme === "standard" && !one.strict && one.tolerance === undefined && isJson(one));
  const accepts = (one) => {
    t.mock.timers.setTime((one.now ?? vectors.now) * 1000);
    const headers = { "webhook-id": one.id, "webhook-timestamp": one.timestamp, "webhook-signature": one.signature };
    return one.secrets.some((name) => {
      try {
        new Webhook(vectors.secrets[name]).verify(Buffer.from(bodies[one.body]), headers);
        return true;
      } catch (error) {
        if (error.name === "TypeError") throw error;
        return false;
      }
    });
  };
  t.mock.timers.enable({ apis: ["Date"] });
  const wrong = cases.filter((one) => accepts(one) !== (one.expect === "valid"));
  assert.deepEqual(wrong.map(({ name }) => name), []);
  assert.ok(cases.length > 30, `${cases.length}`);
});

test("the checks of the published library are live", async () => {
  // The gateway's own deliveries go through both libraries in receivers.test.mjs; here is that they
  // refuse what is not right.
  const { timestamp, sign } = await signedNow();
  const body = vectors.bodies.event.text;
  const headers = { "webhook-id": "evt_1", "webhook-timestamp": `${timestamp}`, "webhook-signature": sign("evt_1", body) };
  const library = new Webhook(vectors.secrets.new);
  assert.deepEqual(library.verify(body, headers), JSON.parse(body));
  assert.throws(() => library.verify(`${body} `, headers));
  assert.throws(() => library.verify(body, { ...headers, "webhook-id": "evt_2" }));
});
