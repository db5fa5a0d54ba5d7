// Official clients: node clients.js <url> <clients of each kind>.
// Prints "ready" when all have had their echoes, and a line of JSON each time that all
// those which lost their connection have had an echo on a new one.
const { io } = require("socket.io-client");
const { Agent } = require("http");
const [url, count] = [process.argv[2], +process.argv[3]];
const kinds = [["polling"], ["polling", "websocket"], ["websocket"]];
const lost = new Map(); // client → when
let back = 0, slowest = 0, waiting = kinds.length * count;

function fail(why) {
  console.log("error: " + why);
  process.exit(1);
}

async function talk(socket, what) {
  const samples = ["text", { nested: [Buffer.from([0, 255, 30]), { deep: Buffer.alloc(1000, 7) }] }, "x".repeat(1e6)];
  const answers = await Promise.all(samples.map((s) => socket.timeout(60000).emitWithAck("echo", s)));
  samples.forEach((s, i) => {
    if (JSON.stringify(answers[i]) !== JSON.stringify(s)) fail(what + ": echo " + i + " is not what was sent");
  });
}

for (const transports of kinds) {
  for (let i = 0; i < count; i++) {
    const agent = new Agent({ keepAlive: i % 2 == 0 }); // browsers keep connections
    const socket = io(url, { transports, agent, forceNew: true, reconnectionDelay: 100, reconnectionDelayMax: 300, timeout: 60000 });
    let first = true;
    socket.on("connect", async () => {
      try {
        await talk(socket, transports + " " + i);
      } catch (e) {
        if (socket.connected) fail(transports + ": " + e);
        return;
      }
      if (first) {
        first = false;
        if (--waiting === 0) console.log("ready");
      } else if (lost.has(socket)) {
        slowest = Math.max(slowest, Date.now() - lost.get(socket));
        lost.delete(socket);
        back++;
        if (lost.size === 0) console.log(JSON.stringify({ back, slowest }));
      }
    });
    socket.on("connect_error", (e) => { if (first) fail(transports + ": " + e.message); });
    socket.on("disconnect", () => lost.set(socket, Date.now()));
  }
}
process.stdin.on("end", () => process.exit()).resume();
