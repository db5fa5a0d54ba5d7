// Official clients, which report what they receive.
"use strict";

const { io } = require("socket.io-client");

const clients = new Map();

module.exports = {
  // connect {name, url, auth, transports, answer} connects a client and returns its id. It acks
  // events with answer, if it has one.
  connect({ name, url, auth = {}, transports = ["websocket"], answer }, report) {
    const socket = io(url, { auth, transports, forceNew: true, reconnection: false });
    clients.set(name, socket);
    socket.onAny((event, ...args) => {
      const ack = typeof args.at(-1) === "function" ? args.pop() : undefined;
      report({ client: name, event, args });
      if (ack && answer !== undefined) ack(answer);
    });
    socket.on("disconnect", (reason) => report({ client: name, disconnect: reason }));
    return new Promise((done, fail) => {
      socket.once("connect", () => done({ sid: socket.id }));
      socket.once("connect_error", fail);
    });
  },
  // stay {name, url, auth, transports} connects a client that comes back by itself, and returns its id. It reports
  // connect(id, recovered) each time that it is back.
  stay({ name, url, auth = {}, transports = ["websocket"] }, report) {
    const delays = { reconnectionDelay: 10, reconnectionDelayMax: 50, randomizationFactor: 0 };
    const socket = io(url, { auth, transports, forceNew: true, ...delays });
    clients.set(name, socket);
    socket.onAny((event, ...args) => report({ client: name, event, args }));
    socket.on("disconnect", (reason) => report({ client: name, disconnect: reason }));
    return new Promise((done) => {
      socket.once("connect", () => {
        done({ sid: socket.id });
        socket.on("connect", () => report({ client: name, event: "connect", args: [socket.id, socket.recovered] }));
      });
    });
  },
  // send {name, event, args} emits and waits for the ack.
  send: ({ name, event, args }) => clients.get(name).timeout(5000).emitWithAck(event, ...args),
  // lose ends the connection of a client that comeBack has connected.
  lose({ name }) {
    const socket = clients.get(name);
    return new Promise((done) => {
      socket.once("disconnect", () => done());
      socket.io.engine.close();
    });
  },
  // comeBack {name, url, auth} connects a client, or one that is known again, to wherever it is now.
  comeBack({ name, url, auth }, report) {
    let socket = clients.get(name);
    if (!socket) {
      socket = io(url, { auth, transports: ["websocket"], forceNew: true, reconnection: false, autoConnect: false });
      socket.onAny((event, ...args) => report({ client: name, event, args }));
      clients.set(name, socket);
    }
    socket.io.uri = url;
    return new Promise((done, fail) => {
      socket.once("connect", () => done({ sid: socket.id, pid: socket._pid, recovered: socket.recovered }));
      socket.once("connect_error", fail);
      socket.connect();
    });
  },
  hangUp({ name }) {
    clients.get(name).disconnect();
    clients.delete(name);
  },
};
