// The receivers of the SDK's README, cut out of it, checked by the TypeScript compiler against the
// frameworks' own types, and compiled to what the tests start.
import { readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fences, here, modules, run, scratch } from "./support.mjs";

export const RECEIVERS = ["express", "fastify", "hono", "next", "next-pages", "workers", "lambda", "node", "fetch"];

const OPTIONS = {
  target: "ES2022",
  lib: ["ES2022", "DOM", "DOM.Iterable", "DOM.AsyncIterable"],
  module: "nodenext",
  types: ["node"],
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
};

/** Compiles what lies in a folder below target/; the packages are found as a user's are. */
export function compile(folder, options = {}) {
  const compilerOptions = { ...OPTIONS, ...options, outDir: "out" };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts", "*.mts", "*.cts"] }));
  symlinkSync(modules, join(folder, "node_modules"));
  const typescript = createRequire(join(here, "../typescript/build.mjs")).resolve("typescript/package.json");
  run(process.execPath, [join(dirname(typescript), "bin/tsc"), "-p", folder]);
  return join(folder, "out");
}

/** The block of the README that is a framework's receiver. */
export function receiver(name) {
  const [block, ...more] = fences("sdk/typescript/README.md", `ts receiver=${name}`);
  if (block === undefined || more.length > 0) throw new Error(`the README has not exactly one receiver for ${name}`);
  return block;
}

/** Where each receiver is as JavaScript, an ES module or CommonJS. */
export function compiled() {
  const folder = scratch("readme");
  for (const name of RECEIVERS) {
    for (const format of ["mts", "cts"]) writeFileSync(join(folder, `${name}.${format}`), receiver(name));
  }
  const out = compile(folder);
  let made = 0;
  return (name, change = (code) => code, format = "mjs") => {
    const file = join(folder, `run-${name}-${made++}.${format}`);
    writeFileSync(file, change(readFileSync(join(out, `${name}.${format}`), "utf8")));
    return file;
  };
}
