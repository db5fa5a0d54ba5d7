// A Node.js node with the events and the /seen of ../node, beside it in a cluster: node js/node.js ID PORT REDIS PREFIX ORIGINS. It
// prints a line when it listens, and ends when its standard input does.
"use strict";

const http = require("http");
const { createClient } = require("redis");
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-adapter");

const [name, port, redis, prefix, origins] = process.argv.slice(2);

async function main() {
  const clients = [0, 1].map(() => createClient({ url: `redis://${redis}` }));
  await Promise.all(clients.map((c) => c.connect()));
  const seen = new Map(); // name: {Requests, Cookies}
  const server = http.createServer((req, res) => {
    const url = new URL(req.url, "http://localhost");
    if (url.pathname !== "/seen") return res.end("ok"); // for health checks
    res.end(JSON.stringify(seen.get(url.searchParams.get("name")) || { Requests: 0, Cookies: 0 }));
  });
  const io = new Server(server, {
    adapter: createAdapter(...clients, { key: prefix }),
    maxHttpBufferSize: 2_000_000,
    cookie: true,
    cors: { origin: origins.split(","), credentials: true },
  });
  io.engine.use((req, _, next) => {
    const asked = new URL(req.url, "http://localhost").searchParams.get("name");
    if (asked) {
      const n = seen.get(asked) || { Requests: 0, Cookies: 0 };
      n.Requests++;
      if (/(^|; *)io=/.test(req.headers.cookie || "")) n.Cookies++;
      seen.set(asked, n);
    }
    next();
  });
  io.on("connection", (socket) => {
    socket.on("echo", (...args) => args.pop()(...args));
    socket.on("join", (room, ack) => {
      socket.join(room);
      ack();
    });
    socket.on("tell", (room, ...args) => io.to(room).emit("told", ...args));
    socket.on("where", (ack) => ack({ node: name, from: socket.handshake.headers["x-forwarded-for"] || "" }));
  });
  server.listen(Number(port), "127.0.0.1", () => console.log(`listening on ${port}`));
}

main();
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
