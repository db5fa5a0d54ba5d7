// A process that Go tests drive: a Socket.IO server in a cluster on Redis, official clients,
// the official emitter. Commands come as lines of JSON, {"id", "do", ...}, and are answered
// with {"id", "result"} or {"id", "error"}. What happens by itself is reported as
// {"report": …}. Bytes are written {"$b": base64}.
"use strict";

const roles = {
  ...require("./server"),
  ...require("./clients"),
  ...require("./emitter"),
  ...require("./notepack"),
};

function write(o) {
  process.stdout.write(JSON.stringify(o) + "\n");
}

// pack makes values ready for JSON.
function pack(v) {
  if (Buffer.isBuffer(v)) return { $b: v.toString("base64") };
  if (ArrayBuffer.isView(v)) return { $b: Buffer.from(v.buffer, v.byteOffset, v.byteLength).toString("base64") };
  if (v instanceof ArrayBuffer) return { $b: Buffer.from(v).toString("base64") };
  if (Array.isArray(v)) return v.map(pack);
  if (v instanceof Set) return [...v].map(pack);
  if (v && typeof v === "object" && typeof v.toJSON !== "function") {
    return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, pack(x)]));
  }
  return v;
}

// unpack is the inverse of pack.
function unpack(v) {
  if (Array.isArray(v)) return v.map(unpack);
  if (v && typeof v === "object") {
    if (typeof v.$b === "string") return Buffer.from(v.$b, "base64");
    return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, unpack(x)]));
  }
  return v;
}

const report = (o) => write({ report: pack(o) });

async function run(line) {
  const { id, do: name, ...rest } = JSON.parse(line);
  try {
    if (!roles[name]) throw new Error(`no command ${name}`);
    const result = await roles[name](unpack(rest), report);
    write({ id, result: result === undefined ? null : pack(result) });
  } catch (err) {
    write({ id, error: String((err && err.message) || err), result: pack(err && err.responses) || null });
  }
}

require("readline")
  .createInterface({ input: process.stdin })
  .on("line", run)
  .on("close", () => process.exit(0));
