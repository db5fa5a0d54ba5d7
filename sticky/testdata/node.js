// A Socket.IO node of the official kind. Prints its port; ends with its input.
const http = require("http").createServer();
const io = new (require("socket.io").Server)(http, { maxHttpBufferSize: 4e6 });

io.on("connection", (socket) => {
  socket.on("echo", (data, ack) => ack(data));
});
http.listen(0, "127.0.0.1", () => console.log(http.address().port));
process.stdin.on("end", () => process.exit()).resume();
