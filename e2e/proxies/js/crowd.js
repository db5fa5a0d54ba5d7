// A crowd of official clients at one URL, which does what lines of JSON on standard input say, {"do", ...}, one after
// the other, and answers each with a line. See the functions of commands.
//
// A third of the clients only polls, a third upgrades, a third only uses WebSocket. Each has an address of its own, every
// second keeps its connections, and where they have cookies, they keep them over reconnections, as a browser does.
"use strict";

const assert = require("assert");
const crypto = require("crypto");
const http = require("http");
const path = require("path");
const { monitorEventLoopDelay } = require("perf_hooks");
const { Manager } = require("socket.io-client");

const engine = path.dirname(require.resolve("engine.io-client", { paths: [require.resolve("socket.io-client")] }));
const globals = require(path.join(engine, "globals.node.js"));
const newJar = globals.createCookieJar;

const MODES = [["polling"], ["polling", "websocket"], ["websocket"]];
const NAMES = ["polling", "upgrade", "websocket"];
const DELAY = { reconnectionDelay: 500, reconnectionDelayMax: 1000, randomizationFactor: 0.5 }; // of reconnections, in ms
const EVERY = 250; // ms, while there is load
const LARGE = 1_000_000;

const groups = new Map(); // name: clients
let problems = [];
let loading;

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const problem = (...words) => problems.push(words.join(" "));

async function until(ms, f) {
  for (const end = Date.now() + ms; !f(); await sleep(10)) {
    if (Date.now() > end) return false;
  }
  return true;
}

class Client {
  constructor(url, i, room, cookies) {
    const mode = (i + Math.floor(i / 3)) % 3; // not in step with who gives each node a client in turn
    this.mode = NAMES[mode];
    this.name = `${this.mode}-${i}`;
    this.address = `127.7.${i + 1}.1`; // nginx's ip_hash takes turns by the third number
    this.room = room;
    this.life = 0; // how many connections it has lost
    this.drops = []; // {at, why}
    this.failures = {}; // text: how often
    this.back = 0; // when its last connection was of use
    this.steps = []; // {at, what} since it was marked
    this.told = new Map(); // sender and its life: the number that comes next
    this.sent = 0;
    this.answered = 0;
    const manager = new Manager(url, {
      ...DELAY,
      autoConnect: false,
      transports: MODES[mode],
      agent: new http.Agent({ localAddress: this.address, keepAlive: i % 2 === 0 }),
      localAddress: this.address,
      withCredentials: cookies,
    });
    const jar = newJar();
    for (const what of ["reconnect_attempt", "open", "error", "close"]) manager.on(what, () => this.step(what));
    const open = manager.open;
    manager.open = manager.connect = function (...args) {
      globals.createCookieJar = () => jar;
      try {
        return open.apply(this, args);
      } finally {
        globals.createCookieJar = newJar;
      }
    };
    this.socket = manager.socket("/");
    this.socket.on("connect", () => {
      this.step("connect");
      this.connected();
    });
    this.socket.on("connect_error", (e) => {
      const why = [e.message, e.description, e.context && e.context.responseText].filter((x) => x && typeof x !== "object").join(" ");
      this.failures[why.slice(0, 90)] = (this.failures[why.slice(0, 90)] || 0) + 1;
    });
    this.socket.on("disconnect", (reason, details) => {
      const status = details && details.context && details.context.status;
      this.drops.push({ at: Date.now(), why: status ? `${reason} (${status})` : reason });
      this.life++;
      this.sent = this.answered = this.back = 0;
      this.told.clear();
    });
    this.socket.on("told", (m) => this.tell(m));
    this.socket.connect();
  }

  step(what) {
    if (this.marked) this.steps.push({ at: Date.now(), what });
  }

  ask(...args) {
    return this.socket.timeout(20_000).emitWithAck(...args);
  }

  async connected() {
    const life = this.life;
    try {
      const { node, from } = await this.ask("where");
      await this.ask("join", this.room);
      const sent = crypto.randomBytes(10);
      assert.ok(sent.equals(await this.ask("echo", sent)), "an echo came back different");
      if (life !== this.life) return;
      this.node = node;
      this.from = from.split(", ").at(-1);
      this.back = Date.now();
    } catch (e) {
      if (life === this.life) problem(this.name, "is connected, but", e.message);
    }
  }

  tell({ from, seq, bytes }) {
    const next = this.told.get(from);
    if (next === undefined ? seq !== 0 && this.life === 0 : seq !== next) problem(this.name, "heard from", from, seq, "want", next || 0);
    if (!Buffer.isBuffer(bytes) || bytes.length !== 20) problem(this.name, "heard something without its bytes");
    this.told.set(from, seq + 1);
  }

  // say emits one message to the room; for those on the same connection as before it follows the last.
  say() {
    this.socket.emit("tell", this.room, { from: `${this.name}#${this.life}`, seq: this.sent++, bytes: crypto.randomBytes(20) });
  }

  async echo(value) {
    const life = this.life;
    const n = ++this.asked || (this.asked = 1);
    try {
      assert.deepStrictEqual(await this.ask("echo", value), value);
    } catch (e) {
      if (life === this.life) problem(this.name, "echo:", e.message.slice(0, 100));
      return;
    }
    if (life !== this.life) return;
    if (n <= this.answered) problem(this.name, "got ack", n, "after", this.answered);
    this.answered = n;
  }
}

const nested = (i) => ({ i, text: "grüße, 世界 \u{1f3dd}", bytes: { deep: [crypto.randomBytes(40), { er: crypto.randomBytes(i) }] } });

// unheard names each client that has not heard all of what another one that spoke has said in its present life.
function* unheard(clients) {
  for (const c of clients.filter((c) => c.back)) {
    for (const s of clients.filter((s) => s.back)) {
      const n = c.told.get(`${s.name}#${s.life}`);
      if (n !== s.sent && !(n === undefined && (c.life > 0 || s.sent === 0))) yield `${c.name} (life ${c.life}): ${n} of ${s.sent} of ${s.name} (life ${s.life})`;
    }
  }
}

// allHeard waits until there is none.
async function allHeard(clients) {
  if (await until(30_000, () => unheard(clients).next().done)) return;
  const left = [...unheard(clients)];
  problem("not all of what was told was heard;", left.length, "pairs, such as", left.slice(0, 5).join("; "));
}

const commands = {
  // connect {group, url, count, room, cookies} connects clients, and waits until all are of use.
  async connect({ group, url, count, room, cookies, patience = 20_000 }) {
    const clients = [];
    groups.set(group, clients);
    for (let i = 0; i < count; i++) {
      clients.push(new Client(url, i, room, cookies));
      if (i % 6 === 5) await sleep(20);
    }
    const up = (c) => c.back && (c.mode !== "upgrade" || c.socket.io.engine.transport.name === "websocket");
    await until(patience, () => clients.every(up));
    const r = { connected: 0, nodes: {}, addresses: 0, late: {}, failures: {} };
    for (const c of clients) {
      if (!up(c)) {
        r.late[c.mode] = (r.late[c.mode] || 0) + 1;
      } else {
        r.connected++;
        r.nodes[c.node] = (r.nodes[c.node] || 0) + 1;
        if (c.from === c.address) r.addresses++;
      }
      for (const d of c.drops) c.failures[d.why] = (c.failures[d.why] || 0) + 1;
      for (const [why, n] of Object.entries(c.failures)) r.failures[`${c.mode}: ${why}`] = (r.failures[`${c.mode}: ${why}`] || 0) + n;
    }
    return r;
  },
  // talk {group} has all clients echo, and tell all others.
  async talk({ group }) {
    const clients = groups.get(group).filter((c) => c.back);
    await Promise.all(clients.flatMap((c) => [1, 2, 3, 4, 5].map((n) => c.echo(nested(n)))));
    for (let n = 0; n < 2; n++) for (const c of clients) c.say();
    await allHeard(clients);
    return { drops: drops(clients, 0) };
  },
  // large {group} has a client of each mode send a megabyte of text, and one of bytes, which is more when it is polled.
  async large({ group }) {
    const clients = groups.get(group);
    const from = Date.now();
    await Promise.all(clients.filter((c) => c.back).slice(0, 3).map(async (c) => {
      await c.echo("x".repeat(LARGE));
      if (c.back) await c.echo(crypto.randomBytes(LARGE));
    }));
    const r = { drops: drops(clients, from) };
    await until(10_000, () => clients.every((c) => c.back)); // those who were not allowed to
    return r;
  },
  // load {group} has them do that all the time, until stop.
  load({ group }) {
    const clients = groups.get(group);
    let n = 0;
    loading = setInterval(() => {
      n++;
      for (const [i, c] of clients.entries()) {
        if (!c.back) continue;
        if (i % 20 < 3) c.say();
        if ((n + i) % 2 === 0) c.echo(nested(n % 10));
      }
    }, EVERY);
    return {};
  },
  // mark {group, node} takes the time, and names who is on the node.
  mark({ group, node }) {
    const clients = groups.get(group);
    for (const c of clients) {
      c.marked = c.node === node && c.back > 0;
      c.steps = [];
      c.failures = {};
    }
    delay.reset();
    begun = Date.now();
    return { marked: clients.filter((c) => c.marked).length };
  },
  // watch {group, ms, direct} waits until those who were marked have come back, and tells how long it took by mode. Meanwhile
  // clients that have nothing to do with it come to a node at direct, one after the other: what that takes is the machine's.
  async watch({ group, ms, direct }) {
    const clients = groups.get(group);
    const away = () => clients.filter((c) => c.marked && c.back < begun);
    let [usual, came] = [0, Date.now()];
    let visitor;
    for (const end = came + ms; away().length > 0 && came <= end; await sleep(visitor ? 10 : 100)) {
      visitor ||= new Client(direct, 0, "visitors");
      const arrived = visitor.back > 0;
      usual = Math.max(usual, (arrived ? visitor.back : Date.now()) - came);
      if (!arrived && Date.now() <= end) continue;
      visitor.socket.disconnect();
      [visitor, came] = [null, Date.now()];
    }
    if (visitor) visitor.socket.disconnect();
    const r = { back: {}, away: away().map((c) => c.name), others: drops(clients.filter((c) => !c.marked), begun), why: {}, slowest: {}, lag: Math.round(delay.max / 1e6), usual };
    for (const c of clients.filter((c) => c.marked)) {
      const back = c.back >= begun ? c.back - begun : Infinity;
      if (back >= (r.back[c.mode] || 0)) r.slowest[c.mode] = [...c.steps.slice(0, 20).map((s) => `${s.what} ${s.at - begun}`), `served ${back}`].join(", ");
      if (c.back >= begun) r.back[c.mode] = Math.max(r.back[c.mode] || 0, back);
      for (const d of c.drops.filter((d) => d.at >= begun)) c.failures[d.why] = (c.failures[d.why] || 0) + 1;
      for (const [why, n] of Object.entries(c.failures)) r.why[`${c.mode}: ${why}`] = (r.why[`${c.mode}: ${why}`] || 0) + n;
    }
    return r;
  },
  // calm {group, ms} waits, and tells who lost a connection meanwhile, or has none.
  async calm({ group, ms }) {
    const clients = groups.get(group);
    const from = Date.now();
    await sleep(ms);
    return { drops: drops(clients, from), away: clients.filter((c) => !c.back).map((c) => c.name) };
  },
  // stop {group} ends the load, and waits for what is on its way.
  async stop({ group }) {
    clearInterval(loading);
    const clients = groups.get(group);
    await allHeard(clients);
    return {};
  },
  // still {group} echoes once more, and tells who has lost a connection since it connected, when, and why.
  async still({ group }) {
    const clients = groups.get(group);
    await Promise.all(clients.filter((c) => c.back).map((c) => c.echo(nested(3))));
    return { drops: drops(clients, 0), away: clients.filter((c) => !c.back).map((c) => c.name) };
  },
  // settle {group} waits until all are connected and served.
  async settle({ group }) {
    const clients = groups.get(group);
    if (!(await until(20_000, () => clients.every((c) => c.back)))) problem("not all have come back");
    return {};
  },
  // leave {group} disconnects.
  async leave({ group }) {
    for (const c of groups.get(group)) c.socket.disconnect();
    groups.delete(group);
    await sleep(50);
    return {};
  },
};

function drops(clients, from) {
  return clients.flatMap((c) => c.drops.filter((d) => d.at >= from).map((d) => `${c.name}: ${d.why}`));
}

const delay = monitorEventLoopDelay({ resolution: 10 });
delay.enable();
let begun = 0;
let last = Promise.resolve();

async function run(line) {
  const command = JSON.parse(line);
  let r;
  try {
    r = await commands[command.do](command);
  } catch (e) {
    r = { error: String(e.stack || e) };
  }
  r.problems = problems.slice(0, 10);
  if (problems.length > 10) r.problems.push(`and ${problems.length - 10} more`);
  problems = [];
  process.stdout.write(JSON.stringify(r) + "\n");
}

require("readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => (last = last.then(() => run(line))))
  .on("close", () => process.exit(0));
