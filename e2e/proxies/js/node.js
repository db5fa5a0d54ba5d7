// A Node.js node with the events of ../node, beside it in a cluster: node js/node.js ID PORT REDIS PREFIX. It prints a
// line when it listens, and ends when its standard input does.
"use strict";

const http = require("http");
const { createClient } = require("redis");
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-adapter");

const [name, port, redis, prefix] = process.argv.slice(2);

async function main() {
  const clients = [0, 1].map(() => createClient({ url: `redis://${redis}` }));
  await Promise.all(clients.map((c) => c.connect()));
  const server = http.createServer((_, res) => res.end("ok")); // for health checks
  const io = new Server(server, {
    adapter: createAdapter(...clients, { key: prefix }),
    maxHttpBufferSize: 2_000_000,
    cookie: true,
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
