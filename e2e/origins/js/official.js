// official.js runs one official server for each set of options that it is given, and prints their ports.
// What JSON cannot say is written as {"pattern": "…"}, and {"function": "…"} for a function of the
// origin that allows what ends so.
//
//   node official.js '[{"cors": …, "cookie": …}, …]'
"use strict";
const { createServer } = require("http");
const { Server } = require("socket.io");

function revive(_, v) {
  if (v && v.pattern) return new RegExp(v.pattern, "i");
  if (v && v.function) return (origin, next) => next(null, Boolean(origin && origin.endsWith(v.function)));
  return v;
}

const all = JSON.parse(process.argv[2], revive).map((o) => new Promise((done) => {
  const http = createServer((_, res) => res.writeHead(404).end());
  new Server(http, o);
  http.listen(0, "127.0.0.1", () => done(http.address().port));
}));

Promise.all(all).then((ports) => console.log(JSON.stringify(ports)));
process.stdin.on("end", () => process.exit(0)).resume();
