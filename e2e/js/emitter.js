// The official emitter for Redis.
"use strict";

const { createClient } = require("redis");
const { Emitter } = require("@socket.io/redis-emitter");

let emitter;

function target({ nsp = "/", rooms = [], except = [], flags = {} }) {
  let t = nsp === "/" ? emitter : emitter.of(nsp);
  if (rooms.length) t = t.to(rooms);
  if (except.length) t = t.except(except);
  if (flags.volatile) t = t.volatile;
  return t;
}

module.exports = {
  async "emitter.open"({ redis }) {
    const client = createClient({ url: redis, socket: { reconnectStrategy: 50 } });
    client.on("error", () => {});
    await client.connect();
    emitter = new Emitter(client);
  },
  "emitter.emit": (c) => void target(c).emit(c.event, ...c.args),
  "emitter.join": (c) => void target(c).socketsJoin(c.names),
  "emitter.leave": (c) => void target(c).socketsLeave(c.names),
  "emitter.disconnect": (c) => void target(c).disconnectSockets(c.close),
  "emitter.serverEmit": (c) => void (c.nsp ? emitter.of(c.nsp) : emitter).serverSideEmit(c.event, ...c.args),
};
