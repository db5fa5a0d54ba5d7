// sea.js draws the cluster as an atoll: the nodes are islands on a ring, the bus is the
// lagoon between them, the balancer is the reef around, and the clients lie outside of it.
// Positions are in CSS pixels of the picture; nothing runs while nothing moves.
const NS = "http://www.w3.org/2000/svg";
const MAX_SPARKS = 240;
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Sea {
  constructor(svg, frame, tab) {
    this.svg = svg;
    this.tab = tab;
    this.nodes = new Map();
    this.clients = new Map();
    this.sparks = new Set();
    this.layers = {};
    const defs = make("defs");
    defs.innerHTML = `<radialGradient id="lagoon"><stop class="deep" offset="0"/><stop class="mid" offset=".8"/><stop class="rim" offset="1"/></radialGradient>`;
    svg.append(defs);
    for (const name of ["water", "wires", "routes", "labels", "sparks", "islands", "clients"]) {
      this.layers[name] = make("g");
      svg.append(this.layers[name]);
    }
    this.reefGlow = add(this.layers.water, "ellipse", { class: "reef-glow" });
    this.reefs = [0, 1].map(() => add(this.layers.water, "ellipse", { class: "reef" }));
    this.lagoon = add(this.layers.water, "ellipse", { class: "lagoon" });
    this.bus = add(this.layers.labels, "text", { class: "bus-label" });
    this.busSub = add(this.layers.labels, "text", { class: "small bus-sub" });
    this.gate = add(this.layers.labels, "rect", { class: "gate", rx: 13, height: 26 });
    this.gateText = add(this.layers.labels, "text", { "text-anchor": "middle" });
    this.balancer = "balancer";
    new ResizeObserver(() => this.layout()).observe(frame);
    this.frame = frame;
  }

  // update takes the state of the cluster as the supervisor tells it.
  update(list, { bus, url }) {
    this.busName = bus;
    this.busSub.textContent = "the bus between the nodes";
    this.balancer = `balancer · ${url.replace(/^https?:\/\//, "")}`;
    const changed = list.length !== this.nodes.size;
    for (const n of list) {
      const node = this.nodes.get(n.name) ?? this.raise(n);
      node.state = n.state;
      node.g.dataset.state = n.state;
      node.sub.textContent = n.state === "up" ? sessions(n.clients.length) : n.state;
      node.members = [];
    }
    for (const [name, node] of this.nodes) {
      if (!list.some((n) => n.name === name)) { node.g.remove(); node.routes.remove(); this.nodes.delete(name); }
    }
    const here = new Set();
    for (const n of list) {
      if (n.state !== "up") continue;
      for (const c of n.clients) {
        if (here.has(c.tab)) continue; // in two lists for a moment, while it moves
        here.add(c.tab);
        this.moor(c, this.nodes.get(n.name));
      }
    }
    // Who has no node drifts for a moment before it goes: it is on its way to another.
    for (const [tab, c] of this.clients) {
      if (here.has(tab)) continue;
      if (c.node) { c.node = null; c.since = performance.now(); c.wire.style.opacity = 0; c.g.style.opacity = .45; }
      if (performance.now() - c.since > 4000) { c.g.remove(); c.wire.remove(); this.clients.delete(tab); }
    }
    if (changed || !this.width) this.layout(); else this.places();
    this.describe(list);
  }

  describe(list) {
    const parts = list.map((n) => (n.state === "up" ? `${n.name} with ${sessions(n.clients.length)}` : `${n.name} is ${n.state}`));
    this.svg.setAttribute("aria-label", `A live picture of the cluster: ${parts.join(", ")}.`);
  }

  // raise makes the island of a node.
  raise(n) {
    const g = add(this.layers.islands, "g", { class: "island" });
    const shape = (r, seed) => blob(r, seed + n.index * 2.3);
    add(g, "path", { class: "shallow", d: shape(82, .4) });
    add(g, "path", { class: "ghost", d: shape(50, 1) });
    add(g, "path", { class: "sand", d: shape(56, 1) });
    add(g, "path", { class: "land", d: shape(47, 1.25) }).style.fill = n.color;
    g.style.setProperty("--node", n.color);
    const ring = add(g, "circle", { class: "ring", r: 62 });
    const title = add(g, "text", { class: "title", y: -2 });
    title.textContent = n.name;
    const sub = add(g, "text", { class: "sub", y: 16 });
    const routes = add(this.layers.routes, "path", { class: "route" });
    const node = { ...n, g, title, sub, ring, routes, members: [], x: 0, y: 0 };
    this.nodes.set(n.name, node);
    return node;
  }

  // moor puts a client to a node, or moves it there.
  moor(c, node) {
    let client = this.clients.get(c.tab);
    if (!client) {
      const g = add(this.layers.clients, "g", { class: "client" + (c.tab === this.tab ? " you" : "") });
      const halo = add(g, "circle", { class: "halo", r: 12 });
      const body = add(g, "circle", { class: "body", r: 7 });
      const title = add(g, "title");
      const text = add(g, "text");
      const wire = add(this.layers.wires, "path", {});
      client = { tab: c.tab, g, body, halo, title, text, wire, x: null, y: null };
      this.clients.set(c.tab, client);
    }
    client.node = node;
    client.name = c.name;
    client.g.style.opacity = 1;
    client.wire.style.opacity = "";
    client.wire.style.stroke = node.color;
    client.wire.setAttribute("class", `wire ${c.transport}`);
    client.body.style.stroke = node.color;
    client.body.style.fill = c.transport === "polling" ? "var(--panel)" : node.color;
    client.title.textContent = `${c.name}, on ${node.name} by ${c.transport === "websocket" ? "WebSocket" : c.transport}`;
    node.members.push(client);
  }

  layout() {
    const w = this.frame.clientWidth, h = this.frame.clientHeight;
    if (!w || !h) return;
    this.width = w; this.height = h;
    this.svg.setAttribute("viewBox", `0 0 ${w} ${h}`);
    const s = (this.scale = Math.max(.62, Math.min(1.25, Math.min(w / 700, h / 480))));
    this.cx = w / 2; this.cy = h / 2 - 2;
    this.rx = Math.min(w / 2 - 78 * s - 14, h * .74);
    this.ry = Math.min(h / 2 - 26 * s - 36, w * .5);
    set(this.reefGlow, { cx: this.cx, cy: this.cy, rx: this.rx, ry: this.ry, "stroke-width": 26 * s });
    this.reefs.forEach((reef, i) => set(reef, {
      cx: this.cx, cy: this.cy, rx: this.rx, ry: this.ry,
      "stroke-width": (i ? 3.5 : 7) * s,
      "stroke-dasharray": i ? "2 17 5 29 1 23" : "18 21 34 15 9 27 52 19 22 13",
    }));
    set(this.lagoon, { cx: this.cx, cy: this.cy, rx: this.rx * .56, ry: this.ry * .58 });
    const gate = s < .75 ? "balancer" : this.balancer; // clients of low islands lie beside it
    this.gateText.textContent = gate;
    this.bus.textContent = s < .75 ? this.busName?.split(",")[0] : this.busName;
    set(this.bus, { x: this.cx, y: this.cy + 18 * s });
    set(this.busSub, { x: this.cx, y: this.cy + 18 * s + 17 });
    this.hub = { x: this.cx, y: this.cy - 34 * s }; // where messages cross
    this.busSub.style.display = s < .75 ? "none" : "";
    const gateWidth = gate.length * 6.9 + 26;
    set(this.gate, { x: this.cx - gateWidth / 2, y: this.cy + this.ry - 13, width: gateWidth });
    set(this.gateText, { x: this.cx, y: this.cy + this.ry + 4.5 });

    const n = this.nodes.size;
    let i = 0;
    for (const node of this.nodes.values()) {
      // The lowest point of the ring is the balancer's, so no island lies there.
      node.angle = -Math.PI / 2 + (n % 2 ? 0 : Math.PI / n) + (i++ * 2 * Math.PI) / n;
      if (n === 3 && node.angle > 0) node.angle = node.angle < Math.PI / 2 ? .42 : Math.PI - .42;
      node.x = this.cx + Math.cos(node.angle) * this.rx * .6;
      node.y = this.cy + Math.sin(node.angle) * this.ry * .6;
      node.size = s * (n > 4 ? .8 : 1);
      node.g.setAttribute("transform", `translate(${node.x} ${node.y}) scale(${node.size})`);
      // A new island stands where it belongs at once; only later moves are shown.
      requestAnimationFrame(() => requestAnimationFrame(() => node.g.setAttribute("data-settled", "")));
      // Small islands keep legible names; their figures are in the list below.
      const brief = node.size < .78;
      set(node.title, { y: brief ? 5 / node.size : -2 });
      node.title.style.fontSize = `${Math.max(12.5 / node.size, 15)}px`;
      node.sub.style.display = brief ? "none" : "";
      node.routes.setAttribute("d", `M${node.x} ${node.y}L${this.hub.x} ${this.hub.y}`);
    }
    this.places();
  }

  // places says where each client belongs: along the reef, outside of its island.
  places() {
    if (!this.width) return;
    const all = this.clients.size, s = this.scale;
    const share = (2 * Math.PI) / Math.max(3, this.nodes.size) * .8;
    for (const node of this.nodes.values()) {
      const m = node.members.sort((a, b) => (a.tab < b.tab ? -1 : 1));
      const step = Math.min(this.scale < .75 ? .24 : .3, Math.max(.11, share / Math.max(1, m.length)));
      const row = Math.max(1, Math.floor(share / step) + 1);
      m.forEach((c, i) => {
        const line = Math.floor(i / row), inRow = Math.min(row, m.length - line * row);
        const a = node.angle + (i % row - (inRow - 1) / 2) * step;
        const out = (26 + line * 19) * s;
        c.tx = this.cx + Math.cos(a) * (this.rx + out);
        c.ty = this.cy + Math.sin(a) * (this.ry + out);
        c.size = all > 16 ? .72 : 1;
        c.text.style.fontSize = `${12 / c.size}px`;
        const labelled = (all <= 12 && this.scale > .7) || c.tab === this.tab;
        const label = c.tab === this.tab ? "you" : c.name;
        c.text.textContent = labelled ? short(label) : "";
        // Beside the client, or above or below it where there is no room.
        const cos = Math.cos(a), room = cos > 0 ? this.width - c.tx : c.tx;
        const low = Math.abs(cos) < .5 || room < 24 + 7.2 * c.text.textContent.length;
        c.text.setAttribute("text-anchor", low ? "middle" : cos > 0 ? "start" : "end");
        set(c.text, { x: low ? 0 : cos > 0 ? 16 : -16, y: low ? (Math.sin(a) > 0 ? 25 : -17) : 4 });
        if (c.x === null) { c.x = c.tx + Math.cos(a) * 60; c.y = c.ty + Math.sin(a) * 60; }
      });
    }
    if (still.matches) for (const c of this.clients.values()) { c.x = c.tx ?? c.x; c.y = c.ty ?? c.y; }
    this.run();
  }

  // travel shows one message: from the client through the reef to its node, over the
  // lagoon to the other nodes, and out to everybody.
  travel(tab, name) {
    const node = this.nodes.get(name), client = this.clients.get(tab);
    if (!node || document.hidden) return;
    if (still.matches) { // no motion: who takes part lights up
      if (client) light(client);
      for (const n of this.nodes.values()) if (n.state === "up") light(n);
      return;
    }
    const arrive = (n) => {
      if (n.state !== "up") return;
      light(n);
      for (const c of n.members) if (c.tab !== tab) this.spark(() => n, () => c, 420, () => light(c), 3.2);
    };
    const cross = () => {
      arrive(node);
      const others = [...this.nodes.values()].filter((n) => n !== node && n.state === "up");
      if (!others.length) return;
      this.spark(() => node, () => this.hub, 380, () => {
        for (const other of others) this.spark(() => this.hub, () => other, 380, () => arrive(other), 5);
      }, 5);
    };
    if (client && client.node === node) this.spark(() => client, () => node, 420, cross, 5.5); else cross();
  }

  spark(from, to, time, done, size) {
    if (this.sparks.size >= MAX_SPARKS) return;
    const c = add(this.layers.sparks, "circle", { class: "spark", r: size * Math.max(.8, this.scale) });
    this.sparks.add({ c, from, to, time, done, start: performance.now() });
    this.run();
  }

  run() {
    if (!this.frameID) this.frameID = requestAnimationFrame((t) => this.step(t));
  }

  step(now) {
    this.frameID = 0;
    let moving = this.sparks.size > 0;
    const pace = still.matches ? 1 : Math.min(1, (now - (this.last ?? now - 16)) / 140);
    this.last = now;
    for (const c of this.clients.values()) {
      if (c.x === null || c.tx === undefined) continue;
      const dx = c.tx - c.x, dy = c.ty - c.y;
      if (Math.abs(dx) + Math.abs(dy) > .3) {
        moving = true;
        c.x += dx * pace; c.y += dy * pace;
      } else { c.x = c.tx; c.y = c.ty; }
      c.g.setAttribute("transform", `translate(${c.x.toFixed(2)} ${c.y.toFixed(2)}) scale(${c.size})`);
      if (c.node) {
        // The wire meets the reef on its way in.
        const mx = (c.x + c.node.x) / 2, my = (c.y + c.node.y) / 2;
        const bend = .12, qx = mx + (this.cx - mx) * bend, qy = my + (this.cy - my) * bend;
        c.wire.setAttribute("d", `M${c.x.toFixed(1)} ${c.y.toFixed(1)}Q${qx.toFixed(1)} ${qy.toFixed(1)} ${c.node.x.toFixed(1)} ${c.node.y.toFixed(1)}`);
      }
    }
    for (const s of [...this.sparks]) {
      const t = Math.min(1, Math.max(0, (now - s.start) / s.time));
      const e = t < .5 ? 2 * t * t : 1 - (2 - 2 * t) ** 2 / 2;
      const a = s.from(), b = s.to();
      set(s.c, { cx: a.x + (b.x - a.x) * e, cy: a.y + (b.y - a.y) * e });
      if (t === 1) { s.c.remove(); this.sparks.delete(s); s.done?.(); moving = true; }
    }
    if (moving) this.run(); else this.last = undefined;
  }
}

// light lets a node or a client light up for a moment.
function light(it) {
  if (it.ring) it.ring.animate([{ opacity: 0 }, { opacity: .85, offset: .3 }, { opacity: 0 }], 500);
  else it.body.animate([{ opacity: 1 }, { opacity: .35, offset: .3 }, { opacity: 1 }], 500);
}

function sessions(n) { return `${n} session${n === 1 ? "" : "s"}`; }
function short(s) { return s.length > 12 ? s.slice(0, 11) + "…" : s; }
function make(name) { return document.createElementNS(NS, name); }
function set(el, attrs) { for (const k in attrs) el.setAttribute(k, attrs[k]); }
function add(to, name, attrs = {}) {
  const el = make(name);
  set(el, attrs);
  to.append(el);
  return el;
}

// blob is a closed smooth shape, round but not a circle, the same for the same seed.
function blob(r, seed) {
  const n = 12, pts = [];
  for (let i = 0; i < n; i++) {
    const a = (i / n) * 2 * Math.PI;
    const k = r * (1 + .09 * Math.sin(2 * a + seed * 3.1) + .06 * Math.sin(3 * a + seed * 5.7) + .03 * Math.sin(5 * a + seed));
    pts.push([k * 1.12 * Math.cos(a), k * .92 * Math.sin(a)]);
  }
  const at = (i) => pts[(i + n) % n];
  let d = `M${at(0).map((v) => v.toFixed(1))}`;
  for (let i = 0; i < n; i++) {
    const [p0, p1, p2, p3] = [at(i - 1), at(i), at(i + 1), at(i + 2)];
    const c1 = [p1[0] + (p2[0] - p0[0]) / 6, p1[1] + (p2[1] - p0[1]) / 6];
    const c2 = [p2[0] - (p3[0] - p1[0]) / 6, p2[1] - (p3[1] - p1[1]) / 6];
    d += `C${[...c1, ...c2, ...p2].map((v) => v.toFixed(1))}`;
  }
  return d + "Z";
}
