// Socket.IO on Node, over WebSocket alone: an event goes to the room that the query names.
// Invariant: nothing is stored, compressed or changed.
const { createRequire } = require("node:module");
const { createServer } = require("node:http");
const { Server } = createRequire(`${process.argv[2]}/`)("socket.io");

const http = createServer();
const io = new Server(http, { transports: ["websocket"], perMessageDeflate: false, serveClient: false });
io.on("connection", (socket) => {
  const room = String(socket.handshake.query.room);
  socket.join(room);
  socket.on("m", (text) => io.to(room).emit("m", text));
});
http.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => {
  console.log(`listening on http://127.0.0.1:${http.address().port}`);
});
