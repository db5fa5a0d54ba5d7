// main.js joins the three parts of the page: the chat (through the balancer, to some
// node), the picture of the cluster and the list of nodes (both from the supervisor,
// whose connection stays while nodes die).
import { Chat } from "./chat.js";
import { Sea } from "./sea.js";
import { Nodes, clock } from "./nodes.js";

const query = new URLSearchParams(location.search);
const transport = ["polling", "websocket"].includes(query.get("transport")) ? query.get("transport") : "";

const tab = newID();
document.body.dataset.tab = tab;

const sea = new Sea(document.getElementById("sea"), document.getElementById("map"), tab);
const nodes = new Nodes(document.getElementById("nodes"), document.getElementById("news"));
const chat = new Chat({ tab, transport });
chat.onplace = (node) => nodes.mark(node);

const select = document.getElementById("transport");
select.value = transport;
select.addEventListener("change", () => {
  location.search = select.value ? `?transport=${select.value}` : "";
});
document.getElementById("another").href = location.pathname + location.search;

// The view of the cluster. WebSocket first: a browser gives all tabs together only six
// connections for polling to one host.
const view = io("/cluster", {
  path: "/observe/socket.io/",
  transports: ["websocket", "polling"],
  tryAllTransports: true,
  reconnectionDelay: 300,
  reconnectionDelayMax: 2000,
});

let began = 0;
view.on("state", (s) => {
  began = Date.now() - s.uptime;
  const list = [];
  s.nodes.forEach((n, i) => list.push({ ...n, index: i, color: `var(--node-${i % 7})` }));
  const known = chat.colors.size;
  chat.colors = new Map(list.map((n) => [n.name, n.color]));
  if (known !== chat.colors.size) chat.repaint();
  sea.update(list, s);
  nodes.update(list);
  const sessions = list.reduce((sum, n) => sum + n.clients.length, 0);
  put("total-said", s.said);
  put("total-delivered", s.delivered);
  put("total-sessions", sessions);
  put("total-moved", s.moved);
  document.getElementById("tagline-nodes").textContent = words[list.length] ?? list.length;
  document.getElementById("lost").hidden = true;
  document.body.dataset.up = list.filter((n) => n.state === "up").length;
});
view.on("hops", (hops) => hops.forEach((h) => sea.travel(h.tab, h.node)));
view.on("disconnect", () => { lostAt = Date.now(); });
view.on("connect", () => { lostAt = 0; });

let lostAt = 0;
const words = ["no", "one", "two", "three", "four", "five", "six", "seven"];

setInterval(() => {
  if (began) put("total-uptime", clock(Date.now() - began));
  nodes.tick();
  document.getElementById("lost").hidden = !lostAt || Date.now() - lostAt < 2500;
}, 1000);

function put(id, value) {
  const el = document.getElementById(id);
  const text = typeof value === "number" ? value.toLocaleString("en") : value;
  if (el.textContent !== text) el.textContent = text;
}

function newID() {
  const b = crypto.getRandomValues(new Uint8Array(9));
  return btoa(String.fromCharCode(...b)).replaceAll("+", "-").replaceAll("/", "_");
}
