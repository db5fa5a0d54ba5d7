// chat.js is the chat of one tab.
//
// Exactly once: each message carries the tab and a number that grows by one. The client
// sends a message until a node has acknowledged it (the official client's `retries`),
// so a message may come twice, and never twice to the list: a tab keeps, for each
// sender, the number it has seen last. What was said while this tab had no node is in
// the history that the next node gives on arrival. A gap in someone's numbers asks for it again.
const KEEP = 300; // messages in the list
const GAP_WAIT = 1500; // ms that a message waits for the ones before it

const birds = ["Tern", "Manta", "Heron", "Turtle", "Noddy", "Wrasse", "Booby", "Dolphin", "Coral", "Nautilus", "Petrel", "Conch", "Egret", "Goby", "Ray", "Plover"];

export class Chat {
  constructor({ tab, transport }) {
    this.tab = tab;
    this.colors = new Map();
    this.onplace = () => {};
    this.node = "";
    this.seq = 0;
    this.seen = new Map(); // sender -> number seen last
    this.held = new Map(); // sender -> messages that wait for earlier ones
    this.mine = new Map(); // number -> list item, until it came back
    this.leftAt = 0;
    this.log = document.getElementById("log");
    this.text = document.getElementById("text");
    this.name = document.getElementById("name");
    this.name.value = stored("name") || birds[Math.floor(Math.random() * birds.length)];
    this.typists = new Map();
    this.follow = true; // the reader is at the end of the list
    this.log.addEventListener("scroll", () => {
      this.follow = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 80;
    });
    new ResizeObserver(() => { if (this.follow) this.log.scrollTop = this.log.scrollHeight; }).observe(this.log);
    this.connect(transport);
    this.form();
  }

  connect(transport) {
    this.socket = io({
      transports: transport ? [transport] : ["polling", "websocket"],
      auth: (give) => give({ tab: this.tab, name: this.name.value.trim() || "?", back: this.node !== "" }),
      retries: 1e9,
      ackTimeout: 4000,
      reconnectionDelay: 150,
      reconnectionDelayMax: 1500,
    });
    const s = this.socket;
    s.on("connect", () => this.place("connecting"));
    s.on("welcome", (w) => this.welcome(w));
    s.on("said", (m) => this.receive(m));
    s.on("history", (h) => { for (const m of h) this.receive(m, true); this.release(); });
    s.on("typing", (t) => this.typing(t));
    s.on("disconnect", (why) => {
      this.leftAt = performance.now();
      document.body.dataset.disconnects = 1 + Number(document.body.dataset.disconnects);
      document.body.dataset.reason = why;
      this.welcomed = false;
      this.place("away");
    });
    s.on("connect_error", () => this.place("away"));
    s.io.on("open", () => s.io.engine.on("upgrade", () => this.place()));
  }

  // welcome comes first on each connection: which node this is, and what was said lately.
  welcome({ node, history }) {
    const from = this.node;
    this.node = node;
    this.welcomed = true;
    document.body.dataset.came = Date.now();
    for (const m of history) this.receive(m, true);
    this.place("connected");
    this.onplace(node);
    if (from && this.leftAt) {
      const took = ((performance.now() - this.leftAt) / 1000).toFixed(1);
      if (from !== node) {
        document.body.dataset.moves = 1 + Number(document.body.dataset.moves);
        this.note(["You moved from ", from, " to ", node, ` in ${took} s`]);
      } else {
        this.note(["You are back on ", node, ` after ${took} s`]);
      }
    }
    this.leftAt = 0;
    const early = this.early ?? [];
    this.early = null;
    for (const m of early) this.receive(m);
    // What was under way while we came is in the history a moment later.
    clearTimeout(this.again);
    this.again = setTimeout(() => this.ask(), 1000);
  }

  ask() { if (this.socket.connected) this.socket.volatile.emit("history"); }

  // receive takes each message of each sender once, in the sender's order.
  receive(m, past = false) {
    if (!this.welcomed) { (this.early ??= []).push(m); return; }
    const last = this.seen.get(m.tab);
    if (last !== undefined && m.seq <= last) return;
    if (last !== undefined && m.seq > last + 1) {
      let held = this.held.get(m.tab);
      if (!held) this.held.set(m.tab, (held = new Map()));
      if (held.size < 500) held.set(m.seq, m);
      if (!this.gap) this.gap = setTimeout(() => { this.gap = 0; this.release(true); }, GAP_WAIT);
      if (!past) this.ask();
      return;
    }
    this.take(m);
    this.release();
  }

  // release takes held messages that are next in their sender's order. With all, the
  // wait is over: the missing ones are too old to be in anybody's memory.
  release(all = false) {
    for (const [tab, held] of this.held) {
      if (all && held.size) this.seen.set(tab, Math.min(...held.keys()) - 1);
      for (;;) {
        const next = held.get(this.seen.get(tab) + 1);
        if (!next) break;
        held.delete(next.seq);
        this.take(next);
      }
      for (const seq of held.keys()) if (seq <= this.seen.get(tab)) held.delete(seq);
      if (!held.size) this.held.delete(tab);
      else if (all && !this.gap) this.gap = setTimeout(() => { this.gap = 0; this.release(true); }, GAP_WAIT);
    }
  }

  take(m) {
    this.seen.set(m.tab, m.seq);
    this.typists.delete(m.tab);
    this.showTypists();
    if (m.tab === this.tab) {
      const li = this.mine.get(m.seq);
      if (li) {
        this.mine.delete(m.seq);
        delete li.dataset.pending;
        this.label(li, m);
        return;
      }
    }
    this.show(m);
  }

  form() {
    document.getElementById("say").addEventListener("submit", (e) => {
      e.preventDefault();
      const text = this.text.value.trim();
      if (!text) return;
      this.text.value = "";
      this.say(text);
    });
    this.name.addEventListener("change", () => {
      store("name", this.name.value.trim());
      if (this.socket.connected) this.socket.emit("rename", this.name.value.trim() || "?");
    });
    let last = 0;
    this.text.addEventListener("input", () => {
      const now = performance.now();
      if (now - last < 1500 || !this.socket.connected) return;
      last = now;
      this.socket.volatile.emit("typing");
    });
  }

  // say shows the message at once, pale until a node has passed it on.
  say(text) {
    const m = { tab: this.tab, seq: ++this.seq, name: this.name.value.trim() || "?", text, node: "" };
    const li = this.show(m);
    li.dataset.pending = "";
    this.mine.set(m.seq, li);
    this.socket.emit("say", { seq: m.seq, name: m.name, text }, (err, answer) => {
      if (err || answer?.ok) return;
      li.dataset.refused = "";
      this.note([answer?.why ?? "The node refused that message."]);
    });
  }

  show(m) {
    const li = document.createElement("li");
    li.dataset.from = m.tab;
    li.dataset.seq = m.seq;
    li.dataset.node = m.node;
    li.dataset.name = m.name;
    if (m.tab === this.tab) li.dataset.mine = "";
    const who = el("p", "who"), bubble = el("p", "bubble");
    bubble.textContent = m.text;
    li.append(who, bubble);
    this.append(li, () => this.label(li, m));
    return li;
  }

  // label says who and where. Who goes on talking is not named again.
  label(li, m) {
    li.dataset.node = m.node;
    const who = li.firstElementChild;
    const name = el("b");
    name.textContent = m.name;
    who.replaceChildren(name);
    if (m.node) {
      const dot = el("i", "dot");
      dot.style.setProperty("--node", this.colors.get(m.node) ?? "");
      who.append(dot, `on ${m.node}`);
    }
    const prev = li.previousElementSibling;
    li.classList.toggle("same", prev?.dataset.from === m.tab && prev.dataset.node === m.node && prev.dataset.name === m.name);
  }

  note(parts) {
    const li = el("li", "note");
    parts.forEach((p, i) => {
      if (i % 2) { const b = el("b"); b.textContent = p; li.append(b); } else li.append(p);
    });
    this.append(li);
  }

  // append puts an item at the end of the list, and the end in sight of who was there.
  append(li, fill = () => {}) {
    const log = this.log;
    if (this.welcomed) li.classList.add("fresh");
    log.append(li);
    fill();
    while (log.childElementCount > KEEP) log.firstElementChild.remove();
    if (this.follow || "mine" in li.dataset) log.scrollTop = log.scrollHeight;
  }

  place(state = document.body.dataset.state) {
    if (state === "connecting" && this.welcomed) state = "connected";
    const body = document.body;
    const transport = this.socket.io.engine?.transport?.name ?? "";
    body.dataset.state = state;
    body.dataset.node = state === "connected" ? this.node : "";
    body.dataset.transport = state === "connected" ? transport : "";
    const where = document.getElementById("where-text");
    document.getElementById("where").style.setProperty("--node", state === "connected" ? (this.colors.get(this.node) ?? "") : "");
    if (state !== "connected") {
      where.textContent = state === "away" ? "looking for another node" : "connecting";
      return;
    }
    const b = el("b");
    b.textContent = this.node;
    where.replaceChildren("you are on ", b, transport === "websocket" ? " by WebSocket" : " by polling");
  }

  typing({ tab, name }) {
    if (tab === this.tab) return;
    this.typists.set(tab, name);
    clearTimeout(this.typingEnd);
    this.typingEnd = setTimeout(() => { this.typists.clear(); this.showTypists(); }, 2500);
    this.showTypists();
  }

  showTypists() {
    const names = [...this.typists.values()];
    document.getElementById("typing").textContent =
      names.length === 0 ? "" : names.length === 1 ? `${names[0]} is typing` : names.length === 2 ? `${names.join(" and ")} are typing` : "Several people are typing";
  }

  // repaint gives the nodes their colours once the supervisor has told them.
  repaint() {
    this.place();
    for (const li of this.log.children) {
      const dot = li.querySelector(".dot");
      if (dot) dot.style.setProperty("--node", this.colors.get(li.dataset.node) ?? "");
    }
  }
}

function el(tag, cls) {
  const e = document.createElement(tag);
  if (cls) e.className = cls;
  return e;
}

function stored(key) {
  try { return sessionStorage.getItem(key); } catch { return ""; }
}

function store(key, value) {
  try { sessionStorage.setItem(key, value); } catch { /* a browser without storage: the name lasts as long as the tab */ }
}
