// Official clients that say numbers and want to hear them again in order.
//
//   node talkers.js URL CLIENTS NUMBERS TRANSPORTS
//
// Prints what was wrong, a line each, then a line with how many clients heard all, and how many have a WebSocket.
const { createRequire } = require("module");
const { io } = createRequire(process.env.MODULES + "/")("socket.io-client");

const [url, clients, numbers, transports] = process.argv.slice(2);
const n = Number(numbers);
let done = 0, webSockets = 0, left = Number(clients);

function talk(i) {
  const s = io(url, { transports: transports.split(","), forceNew: true, reconnection: false });
  let next = 0, said = 0;
  const wrong = (text) => console.log(`client ${i}: ${text}`);
  const end = () => {
    if (--left === 0) {
      console.log(`done ${done} websockets ${webSockets}`);
      process.exit(0);
    }
  };
  const say = () => {
    if (said < n) s.emit("say", said++);
  };
  s.on("connect", () => {
    for (let k = 0; k < 5; k++) say();
  });
  s.on("connect_error", (err) => {
    wrong(`connect_error ${err.message} ${JSON.stringify(err.context && err.context.responseText)}`);
    end();
  });
  s.on("said", (k) => {
    if (k !== next) wrong(`heard ${k}, want ${next}`);
    next = k + 1;
    if (next < n) return setTimeout(say, k % 3);
    s.timeout(20000).emit("sum", [i, 1], (err, sum) => {
      if (err || sum !== i + 1) wrong(`sum ${err} ${sum}`);
      done++;
      setTimeout(() => {
        if (s.io.engine.transport.name === "websocket") webSockets++;
        s.off("disconnect");
        end();
      }, 200);
    });
  });
  s.on("disconnect", (why, d) => {
    wrong(`disconnected: ${why} ${d && d.description}`);
    end();
  });
}

for (let i = 0; i < clients; i++) setTimeout(talk, i * 5, i);
