// A Socket.IO server with an official adapter. A client is put into the rooms of its
// auth payload, and gets the data of it.
"use strict";

const http = require("http");
const { Server } = require("socket.io");
const media = require("./media");

let io;

function welcome(socket) {
  const { rooms = [], data } = socket.handshake.auth;
  if (data) socket.data = data;
  return socket.join(rooms);
}

// target makes the operator for {nsp, rooms, except, flags}.
function target({ nsp = "/", rooms = [], except = [], flags = {} }) {
  let t = io.of(nsp);
  if (rooms.length) t = t.to(rooms);
  if (except.length) t = t.except(except);
  if (flags.volatile) t = t.volatile;
  if (flags.compress === false) t = t.compress(false);
  if (flags.timeout) t = t.timeout(flags.timeout);
  return t;
}

module.exports = {
  // serve {adapter, options, namespaces} starts the server and returns its port.
  async serve({ adapter, options = {}, namespaces = ["/"] }, report) {
    const server = http.createServer();
    io = new Server(server, { ...options, adapter: await media.adapter(adapter) });
    for (const name of namespaces) {
      const nsp = io.of(name);
      nsp.on("connection", welcome);
      nsp.on("note", (...args) => report({ server: name, event: "note", args }));
      nsp.on("question", (...args) => {
        const answer = args.pop();
        report({ server: name, event: "question", args });
        answer({ from: "js", got: args });
      });
    }
    await new Promise((done) => server.listen(0, "127.0.0.1", done));
    return { port: server.address().port };
  },
  emit: (c) => void target(c).emit(c.event, ...c.args),
  emitAck: (c) => target(c).emitWithAck(c.event, ...c.args),
  join: (c) => void target(c).socketsJoin(c.names),
  leave: (c) => void target(c).socketsLeave(c.names),
  disconnect: (c) => void target(c).disconnectSockets(c.close),
  async fetch(c) {
    const sockets = await target(c).fetchSockets();
    return sockets.map((s) => ({ id: s.id, rooms: s.rooms, data: s.data, handshake: Object.keys(s.handshake).length > 0 }));
  },
  rooms: (c) => io.of(c.nsp || "/").adapter.allRooms(),
  serverEmit: (c) => void io.of(c.nsp || "/").serverSideEmit(c.event, ...c.args),
  serverAsk: (c) => io.of(c.nsp || "/").serverSideEmitWithAck(c.event, ...c.args),
  // fetched {sid, then} fetches a socket and does something with it as with a socket of one's own.
  async fetched({ nsp, sid, then, ...c }) {
    const socket = (await io.of(nsp || "/").fetchSockets()).find((s) => s.id === sid);
    if (!socket) throw new Error(`no socket ${sid}`);
    switch (then) {
      case "emit":
        return void socket.emit(c.event, ...c.args);
      case "ask":
        return socket.timeout(5000).emitWithAck(c.event, ...c.args);
      case "join":
        return void socket.join(c.names);
      case "leave":
        return void c.names.forEach((r) => socket.leave(r));
      case "disconnect":
        return void socket.disconnect(c.close);
    }
    throw new Error(`then what? ${then}`);
  },
};
