// Official clients that tell what they see: node clients.js URL NUMBER TRANSPORTS
// prints a line of JSON for each thing that happens to one, and ends with its input.
"use strict";
const { io } = require("socket.io-client");
const [url, number, transports] = process.argv.slice(2);

const say = (o) => process.stdout.write(JSON.stringify(o) + "\n");
const sockets = [];
for (let client = 0; client < Number(number); client++) {
  const socket = io(url, { transports: transports.split(","), forceNew: true });
  socket.on("connect", () => say({ client, what: "connect", recovered: socket.recovered }));
  socket.on("disconnect", (reason) => say({ client, what: "disconnect", reason }));
  socket.on("connect_error", (err) => say({ client, what: "connect_error", reason: err.message }));
  socket.on("n", (n) => say({ client, what: "n", n }));
  sockets.push(socket);
}
process.stdin.on("end", () => process.exit(0)).resume();
