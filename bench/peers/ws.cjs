// `ws` on Node: a text goes to every member of the room that the path names, as its documentation does it.
// Invariant: nothing is stored, compressed or changed.
const { createRequire } = require("node:module");
const { WebSocketServer } = createRequire(`${process.argv[2]}/`)("ws");

const rooms = new Map();
const server = new WebSocketServer({ port: 0, host: "127.0.0.1", backlog: 4096, perMessageDeflate: false });
server.on("connection", (socket, request) => {
  const room = rooms.get(request.url) ?? new Set();
  rooms.set(request.url, room);
  room.add(socket);
  socket.on("message", (text) => {
    for (const member of room) member.send(text, { binary: false });
  });
  socket.on("close", () => room.delete(socket));
  socket.on("error", () => {});
});
server.on("listening", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
