// A crowd of official clients on one server: node js/crowd.js URL CLIENTS. A third of
// them only polls, a third upgrades, a third only uses WebSocket. Each echoes texts, binary
// nested in objects and a large payload; each sends to a room, some to everyone. What every
// client has received is then held against what was sent: nothing may be missing, there
// twice, or out of a sender's order. Prints one line of JSON; problems is empty if all is well.
"use strict";

const crypto = require("crypto");
const assert = require("assert");
const { io } = require("socket.io-client");

const [url, count] = [process.argv[2], Number(process.argv[3] || 100)];
const modes = {
  polling: { transports: ["polling"] },
  upgrade: { transports: ["polling", "websocket"] },
  websocket: { transports: ["websocket"] },
};
const ECHOES = 10;
const LARGE = 1_000_000;
const ROOM_MESSAGES = 5;
const ROOM_SIZE = 10;
const SPEAKERS = 10; // of each mode, who send to everyone
const SPEECHES = 3;

const problems = [];
const problem = (...words) => problems.length < 20 && problems.push(words.join(" "));
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// each runs f for all items, so many at once.
async function each(items, atOnce, f) {
  const left = [...items];
  await Promise.all(Array.from({ length: atOnce }, async () => {
    while (left.length) await f(left.shift());
  }));
}

function connect(name, mode) {
  const socket = io(url, { ...modes[mode], forceNew: true, reconnection: false });
  const client = { name, mode, socket, room: [], bcast: [] };
  socket.on("room", (m) => client.room.push(m));
  socket.on("bcast", (m) => client.bcast.push(m));
  socket.on("disconnect", (reason) => client.leaving || problem(name, "disconnected:", reason));
  const opened = new Promise((done, fail) => {
    socket.once("connect", () => done(client));
    socket.once("connect_error", (e) => fail(new Error(`${name}: ${e.message}`)));
  });
  return opened.then(async () => {
    if (mode === "upgrade") await until(`upgrade of ${name}`, 10, () => socket.io.engine.transport.name === "websocket");
    return client;
  });
}

async function echo(client) {
  const ask = (...args) => client.socket.timeout(60_000).emitWithAck("echo", ...args);
  const order = [];
  await Promise.all(Array.from({ length: ECHOES }, async (_, i) => {
    const sent = { i, text: "grüße, 世界 \u{1f3dd}", bytes: { deep: [crypto.randomBytes(40), { er: crypto.randomBytes(i) }] } };
    assert.deepStrictEqual(await ask(sent), sent);
    order.push(i);
  }));
  assert.deepStrictEqual(order, [...order].sort((a, b) => a - b), "acks out of order");
  const text = "x".repeat(LARGE - 100);
  assert.ok((await ask(text)) === text, "a large text came back different");
  const bytes = crypto.randomBytes(client.mode === "websocket" ? LARGE : Math.floor(LARGE * 0.74)); // base64 in polling
  assert.ok(bytes.equals(await ask(bytes)), "large bytes came back different");
}

// held holds what a client received against what was sent to it.
function held(client, kind, senders, each) {
  const next = new Map();
  for (const m of client[kind]) {
    const want = next.get(m.from) || 0;
    if (m.seq !== want) problem(client.name, kind, "from", m.from, "got", m.seq, "want", want);
    if (!Buffer.isBuffer(m.bytes) || m.bytes.length !== 20) problem(client.name, kind, "lost its bytes");
    next.set(m.from, m.seq + 1);
  }
  for (const s of senders) {
    if ((next.get(s.name) || 0) !== each) problem(client.name, kind, "from", s.name, "got", next.get(s.name) || 0, "want", each);
  }
  if (next.size !== senders.length) problem(client.name, kind, "came from", next.size, "want", senders.length);
}

async function until(what, seconds, f) {
  for (const end = Date.now() + seconds * 1000; !f(); await sleep(50)) {
    if (Date.now() > end) return problem(what, "did not finish in", seconds, "s");
  }
}

async function main() {
  const begin = Date.now();
  const wanted = Object.keys(modes).flatMap((mode) => Array.from({ length: count }, (_, i) => [`${mode}-${i}`, mode]));
  const clients = [];
  await each(wanted, 20, async ([name, mode]) => clients.push(await connect(name, mode)));
  const nodes = {};
  await each(clients, 50, async (c) => {
    c.node = await c.socket.timeout(10_000).emitWithAck("where");
    nodes[c.node] = (nodes[c.node] || 0) + 1;
  });

  await each(clients, 12, (c) => echo(c).catch((e) => problem(c.name, "echo:", e.message)));

  // Rooms, with members of all modes and, by the balancer, of all nodes.
  const rooms = new Map();
  clients.forEach((c, i) => {
    c.where = `room-${i % Math.ceil(clients.length / ROOM_SIZE)}`;
    rooms.set(c.where, [...(rooms.get(c.where) || []), c]);
  });
  await each(clients, 50, (c) => c.socket.timeout(10_000).emitWithAck("join", c.where));
  for (let seq = 0; seq < ROOM_MESSAGES; seq++) {
    for (const c of clients) c.socket.emit("room", c.where, { from: c.name, seq, bytes: crypto.randomBytes(20) });
  }
  await until("rooms", 60, () => clients.every((c) => c.room.length >= rooms.get(c.where).length * ROOM_MESSAGES));

  const speakers = clients.filter((c) => Number(c.name.split("-")[1]) < SPEAKERS);
  for (let seq = 0; seq < SPEECHES; seq++) {
    for (const c of speakers) c.socket.emit("bcast", { from: c.name, seq, bytes: crypto.randomBytes(20) });
  }
  await until("broadcasts", 60, () => clients.every((c) => c.bcast.length >= speakers.length * SPEECHES));
  await sleep(300); // for what must not come

  let received = 0;
  for (const c of clients) {
    held(c, "room", rooms.get(c.where), ROOM_MESSAGES);
    held(c, "bcast", speakers, SPEECHES);
    received += c.room.length + c.bcast.length;
    const transport = c.socket.io.engine.transport.name;
    if (transport !== (c.mode === "polling" ? "polling" : "websocket")) problem(c.name, "ended on", transport);
  }
  for (const c of clients) {
    c.leaving = true;
    c.socket.disconnect();
  }
  return { clients: clients.length, nodes, echoes: clients.length * (ECHOES + 2), received, seconds: (Date.now() - begin) / 1000, problems };
}

main().then(
  (result) => console.log(JSON.stringify(result)),
  (e) => console.log(JSON.stringify({ problems: [String(e.stack || e), ...problems] })),
).finally(() => setTimeout(() => process.exit(0), 500));
