// The official emitters.
"use strict";

const media = require("./media");

let emitter;

function target({ nsp = "/", rooms = [], except = [], flags = {} }) {
  let t = nsp === "/" ? emitter : emitter.of(nsp);
  if (rooms.length) t = t.to(rooms);
  if (except.length) t = t.except(except);
  if (flags.volatile) t = t.volatile;
  return t;
}

module.exports = {
  async "emitter.open"({ adapter }) {
    emitter = await media.emitter(adapter);
  },
  "emitter.emit": (c) => void target(c).emit(c.event, ...c.args),
  "emitter.join": (c) => void target(c).socketsJoin(c.names),
  "emitter.leave": (c) => void target(c).socketsLeave(c.names),
  "emitter.disconnect": (c) => void target(c).disconnectSockets(c.close),
  "emitter.serverEmit": (c) => void (c.nsp ? emitter.of(c.nsp) : emitter).serverSideEmit(c.event, ...c.args),
};
