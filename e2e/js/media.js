// What an adapter {kind, url, options} and its emitter are made of.
"use strict";

const { createClient } = require("redis");
const { Pool } = require("pg");

const open = [];

async function redis(url) {
  const client = createClient({ url, socket: { reconnectStrategy: 50 } });
  client.on("error", () => {}); // it comes back by itself
  open.push(client);
  await client.connect();
  return client;
}

function postgres(url) {
  // The adapter keeps one connection to listen, and publishes on any other: with more than one they overtake each other.
  const pool = new Pool({ connectionString: url, max: 2 });
  pool.on("error", () => {});
  open.push(pool);
  return pool;
}

module.exports = {
  // adapter makes what a server's option of that name takes.
  async adapter({ kind, url, options = {} }) {
    switch (kind) {
      case "classic":
        return require("@socket.io/redis-adapter").createAdapter(await redis(url), await redis(url), options);
      case "sharded":
        return require("@socket.io/redis-adapter").createShardedAdapter(await redis(url), await redis(url), options);
      case "streams":
        return require("@socket.io/redis-streams-adapter").createAdapter(await redis(url), options);
      case "postgres":
        return require("@socket.io/postgres-adapter").createAdapter(postgres(url), options);
    }
    throw new Error(`no adapter ${kind}`);
  },
  // emitter makes the official emitter.
  async emitter({ kind, url, options = {} }) {
    switch (kind) {
      case "classic":
        return new (require("@socket.io/redis-emitter").Emitter)(await redis(url), options);
      case "postgres":
        return new (require("@socket.io/postgres-emitter").Emitter)(postgres(url), "/", options);
    }
    throw new Error(`no emitter ${kind}`);
  },
};
