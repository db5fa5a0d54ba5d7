// nodes.js is the list of nodes with their figures and the buttons that end and start them.
export class Nodes {
  constructor(list, news) {
    this.list = list;
    this.news = news;
    this.items = new Map();
    this.yours = "";
  }

  update(nodes) {
    this.at = Date.now();
    for (const n of nodes) {
      const item = this.items.get(n.name) ?? this.make(n);
      const was = item.node?.state;
      item.node = n;
      item.li.dataset.state = n.state;
      item.li.dataset.sessions = n.clients.length;
      item.li.dataset.pid = n.pid;
      const down = n.state === "down";
      item.button.textContent = down ? "Start" : "Kill -9";
      item.button.setAttribute("aria-label", down ? `Start node ${n.name}` : `Kill node ${n.name} without warning`);
      item.button.dataset.testid = `${down ? "start" : "kill"}-${n.name}`;
      item.button.disabled = n.state === "starting";
      if (was && was !== n.state && n.state !== "starting") {
        this.news.textContent = n.state === "up" ? `Node ${n.name} is up.` : `Node ${n.name} is down.`;
      }
      this.figures(item);
    }
    for (const [name, item] of this.items) {
      if (!nodes.some((n) => n.name === name)) { item.li.remove(); this.items.delete(name); }
    }
  }

  make(n) {
    const li = document.createElement("li");
    li.className = "node";
    li.dataset.testid = `node-${n.name}`;
    li.style.setProperty("--node", n.color);
    const h = document.createElement("h3"), dot = document.createElement("i"), small = document.createElement("small");
    dot.className = "dot";
    h.append(dot, n.name, small);
    const p = document.createElement("p");
    p.title = "sessions, heap, time since the start";
    const button = document.createElement("button");
    button.type = "button";
    const item = { li, small, p, button };
    button.addEventListener("click", () => this.act(item));
    li.append(h, button, p);
    this.list.append(li);
    this.items.set(n.name, item);
    li.classList.toggle("yours", n.name === this.yours);
    return item;
  }

  async act(item) {
    const n = item.node;
    item.button.disabled = true;
    document.body.dataset.pressed = Date.now();
    try {
      const r = await fetch(`/demo/nodes/${encodeURIComponent(n.name)}/${n.state === "down" ? "start" : "kill"}`, { method: "POST" });
      if (!r.ok) this.news.textContent = item.p.textContent = (await r.text()).trim();
    } catch {
      this.news.textContent = item.p.textContent = "The demo does not answer. Is it still running?";
    } finally {
      item.button.disabled = false;
    }
  }

  // mark shows which node is the one of this tab.
  mark(name) {
    this.yours = name;
    for (const [other, item] of this.items) item.li.classList.toggle("yours", other === name);
  }

  tick() {
    for (const item of this.items.values()) if (item.node?.state === "up") this.figures(item);
  }

  figures({ node: n, small, p }) {
    if (n.state === "up") {
      small.textContent = `pid ${n.pid}`;
      const up = clock(n.uptime + Date.now() - this.at);
      // What does not fit into one line is left out as a whole.
      const parts = [count(n.clients.length, "session"), `${(n.heap / 1048576).toFixed(1)} MB`, up];
      if (p.childElementCount !== parts.length) p.replaceChildren(...parts.map(() => document.createElement("span")));
      parts.forEach((text, i) => { if (p.children[i].textContent !== text) p.children[i].textContent = text; });
    } else if (n.state === "starting") {
      small.textContent = "";
      p.textContent = "starting";
    } else {
      small.textContent = "down";
      p.textContent = n.exit || "not running";
    }
  }
}

function count(n, word) { return `${n} ${word}${n === 1 ? "" : "s"}`; }

// clock writes milliseconds as minutes and seconds, with hours where there are any.
export function clock(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  const h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
  const two = (n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s % 60)}` : `${m}:${two(s % 60)}`;
}
