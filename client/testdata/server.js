// The official server, for the tests of the client. It does what serverFor in
// server_test.go does. Arguments: the folder with its packages, and the transports.
const { createServer } = require("http");
const { Server } = require(process.argv[2] + "/socket.io");

const http = createServer();
const io = new Server(http, { pingInterval: 300, pingTimeout: 5000 });

function serve(namespace) {
  namespace.on("connection", (socket) => {
    socket.emit("hello", socket.handshake.auth);
    socket.on("echo", (...args) => {
      if (typeof args.at(-1) === "function") args.pop()(...args);
      else socket.emit("echo", ...args);
    });
    socket.on("ask me", (value, done) => {
      socket.timeout(2000).emit("question", value, (err, answer) => done(err ? "none" : answer));
    });
    socket.on("count", (n) => {
      for (let i = 0; i < n; i++) socket.emit("number", i);
    });
    socket.on("kick", () => socket.disconnect());
    socket.on("drop", () => socket.conn.close());
    socket.on("silent", () => {});
  });
}

serve(io.of("/"));
serve(io.of("/chat"));
io.of("/secret").use((socket, next) => {
  const err = new Error("not you");
  err.data = { code: 7 };
  next(err);
});
http.listen(0, "127.0.0.1", () => console.log(http.address().port));
process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
