// What kit.py is, for checks in JavaScript: starts a proxy and a mock, counts what passes, stops it all.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const FOLDER = path.dirname(fileURLToPath(import.meta.url));
const ROOT = path.resolve(FOLDER, "../..");
const ATP = process.env.ATP_BIN ?? path.join(ROOT, "target/debug/atp");
const LOADTEST = process.env.LOADTEST_BIN ?? path.join(ROOT, "target/debug/loadtest");
// Of a start and of every condition; a debug build on a busy machine stays far below.
const PATIENCE_MS = 20_000;
const CHECK_MS = 60_000;

const children = [];
const folders = [];
process.on("exit", () => {
  for (const child of children) child.process.kill("SIGKILL");
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A child whose output is kept, to be waited for and to be shown when something fails. */
class Child {
  constructor(binary, args) {
    this.args = args;
    this.output = "";
    this.process = spawn(binary, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.process.on("error", (error) => (this.output += String(error)));
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream.on("data", (bytes) => (this.output = (this.output + bytes).slice(-16_384)));
    }
    children.push(this);
  }

  get isAlive() {
    const { exitCode, signalCode, pid } = this.process;
    return exitCode === null && signalCode === null && pid !== undefined;
  }

  /** The first group of `pattern` in the output, once it is there. */
  told(pattern) {
    return until(`${this.args[0]} says ${pattern}`, () => {
      const found = pattern.exec(this.output);
      if (!found && !this.isAlive) throw new Error(`${this.args[0]} ended: ${this.output}`);
      return found?.[1];
    });
  }
}

export async function mock() {
  const child = new Child(LOADTEST, ["mock"]);
  child.url = await child.told(/mock listening on (http:\S+)\n/);
  const unasked = { requests: 0, cancels: [] };
  child.stats = async (model) => (await json(`${child.url}/mock/stats`)).models[model] ?? unasked;
  child.lastRequest = async () => (await json(`${child.url}/mock/requests`)).at(-1);
  child.reset = () => fetch(`${child.url}/mock/reset`, { method: "POST" });
  return child;
}

/** A data plane of its own that serves `resources`. */
export async function proxy(resources, settings = {}) {
  const folder = mkdtempSync(path.join(tmpdir(), "atp-foreign-"));
  folders.push(folder);
  const listen = { http: "127.0.0.1:0", admin: "127.0.0.1:0" };
  const file = (name) => path.join(folder, name);
  const config = { listen, workers: 1, data_dir: folder, resources: file("resources.yaml"), ...settings };
  const documents = resources.map((resource) => `${JSON.stringify(resource)}\n`);
  writeFileSync(file("resources.yaml"), documents.join("---\n"));
  writeFileSync(file("dataplane.yaml"), JSON.stringify(config));
  const child = new Child(ATP, ["dataplane", "--config", file("dataplane.yaml")]);
  child.url = await child.told(/clients: (http:\S+)\n/);
  child.admin = await child.told(/admin: (http:\S+)\n/);
  await until("the proxy is ready", async () => (await fetch(`${child.admin}/healthz/ready`)).ok);
  child.metric = async (name, ...labels) => {
    const lines = (await (await fetch(`${child.admin}/metrics`)).text()).split("\n");
    const own = lines.filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
    const wanted = own.filter((line) => labels.every((label) => line.includes(label)));
    return wanted.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
  };
  return child;
}

/** `endpoint`: of a server without `/v1`. */
export function adapter(name, endpoint, models, spec = {}) {
  models = models.map((model) => (typeof model === "string" ? { name: model } : model));
  return { kind: "Adapter", name, spec: { kind: "openai", endpoint: `${endpoint}/v1`, models, ...spec } };
}

/** Each model on an adapter of its own, so that no fault of one trips the breaker of another. */
export function alone(endpoint, models, timeout) {
  return models.flatMap((model, number) => {
    const name = `alone-${number}`;
    const candidates = [{ adapter: name, model, weight: 1 }];
    const spec = { match: { model }, candidates, strategy: "weighted", timeout };
    return [adapter(name, endpoint, [model]), { kind: "Route", name, spec }];
  });
}

export const cases = () => JSON.parse(readFileSync(path.join(FOLDER, "cases.json"), "utf8"));

/** Polls until `holds` and gives what it gave. */
export async function until(what, holds) {
  const ends = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await holds();
    if (found) return found;
    if (Date.now() > ends) throw new Error(`not within ${PATIENCE_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const checks = [];

/** Adds a check; its name is the sentence it proves. */
export function check(name, holds) {
  checks.push([name, holds]);
}

/** Makes every check and ends the process. */
export async function main() {
  let failed = 0;
  const started = Date.now();
  for (const child of children) {
    check(`${child.args[0]} lives on`, () => {
      if (!child.isAlive) throw new Error(`exit code ${child.process.exitCode}`);
    });
  }
  for (const [name, holds] of checks) {
    let timer;
    const tooLong = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`the check did not end within ${CHECK_MS} ms`)), CHECK_MS);
    });
    try {
      await Promise.race([holds(), tooLong]);
      console.log(`ok    ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL  ${name}\n${error.stack ?? error}`);
    } finally {
      clearTimeout(timer);
    }
  }
  if (failed) for (const child of children) console.log(`--- ${child.args[0]} said last:\n${child.output}`);
  const script = path.basename(process.argv[1]);
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  console.log(`${script}: ${checks.length - failed} passed, ${failed} failed in ${seconds} s`);
  process.exit(failed || !checks.length ? 1 : 0);
}

async function json(url) {
  return (await fetch(url)).json();
}
