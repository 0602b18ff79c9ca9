// Compiles src/ twice, into dist/esm and dist/cjs. The compiler takes a file's module format from the
// nearest package.json, so the second run sees a copy of the sources beside one that says CommonJS.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

process.chdir(dirname(fileURLToPath(import.meta.url)));
const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");
const compile = (project, out) =>
  execFileSync(process.execPath, [tsc, "-p", project, "--outDir", out], { stdio: "inherit" });
const format = (folder, type) => {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), `{ "type": "${type}" }\n`);
};

rmSync("dist", { recursive: true, force: true });
compile(".", "dist/esm");
format("dist/esm", "module");

cpSync("src", "dist/cjs-src/src", { recursive: true });
cpSync("tsconfig.json", "dist/cjs-src/tsconfig.json");
format("dist/cjs-src", "commonjs");
compile("dist/cjs-src", "dist/cjs");
format("dist/cjs", "commonjs");
rmSync("dist/cjs-src", { recursive: true });
