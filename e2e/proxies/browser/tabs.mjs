// tabs.mjs is a headless Chromium that does what lines of JSON on standard input say, {id, do, ...}, many at once, and answers
// each with a line {id, ...}. See the functions of commands. Each group has cookies of its own.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import puppeteer from "puppeteer-core";

const profile = mkdtempSync(join(tmpdir(), "atoll-chromium-"));
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  headless: true,
  userDataDir: profile,
  // The first keeps it from drawing parts of its own window that nobody sees.
  args: ["--disable-features=PreloadTopChromeWebUI", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding"],
});
const groups = new Map(); // name: {context, page}

// open returns the page of a group, at an address if one is given.
async function open(group, address) {
  let g = groups.get(group);
  if (!g) {
    const context = await browser.createBrowserContext();
    g = { context, page: await context.newPage() };
    groups.set(group, g);
  }
  if (address && g.page.url() !== new URL(address).href) await g.page.goto(address);
  return g.page;
}

// The functions that take a page's word run in it.

// visit connects a client, has it echo a text and bytes, and disconnects it. It ends in any case, after 30 s at the latest.
function visit({ url, name, mode, transports }) {
  return new Promise((done) => {
    const began = Date.now();
    const s = io(url, { transports, withCredentials: true, query: { name }, forceNew: true, reconnection: false, timeout: 20_000 });
    let ended = false;
    const end = (r) => { // when its last request has left
      if (ended) return;
      ended = true;
      const { engine } = s.io;
      r = { mode, transport: engine.transport?.name, ms: Date.now() - began, ...r };
      s.off();
      if (engine.readyState === "closed") return done(r);
      engine.once("close", () => setTimeout(done, 30, r));
      setTimeout(done, 3000, r); // it does not close while it is upgrading
      s.disconnect();
    };
    const fail = (error) => end({ connected: false, error });
    setTimeout(fail, 30_000, "not done after 30 s");
    s.on("connect_error", (e) => fail(e.message));
    s.on("disconnect", fail);
    s.on("connect", () => {
      const talk = async () => {
        try {
          const bytes = new Uint8Array(5000).map((_, i) => i);
          const { text, back } = await s.timeout(20_000).emitWithAck("echo", { text: name, back: bytes.buffer });
          const same = text === name && String(new Uint8Array(back)) === String(bytes);
          if (same) end({ connected: true, error: "" });
          else fail("an echo came back different");
        } catch (e) {
          fail(e.message);
        }
      };
      const { engine } = s.io;
      if (transports.length === 1 || engine.transport.name === "websocket") return talk();
      engine.once("upgrade", talk);
      engine.once("upgradeError", (e) => fail(`not upgraded: ${e.message}`));
    });
  });
}

// stay connects a client of each mode, which reconnect by themselves.
function stay({ url, name, modes }) {
  window.kept = modes.map(({ mode, transports }) => {
    const k = { mode, upgrades: transports.length === 2 };
    const s = (k.socket = io(url, {
      transports, withCredentials: true, query: { name }, forceNew: true, timeout: 20_000,
      reconnectionDelay: 500, reconnectionDelayMax: 1000, randomizationFactor: 0.5,
    }));
    s.on("connect", async () => {
      try {
        await s.timeout(20_000).emitWithAck("echo", "here");
        k.back = Date.now();
      } catch {
        // it was disconnected before
      }
    });
    s.on("disconnect", () => (k.lost = Date.now()));
    s.on("connect_error", (e) => {
      if (k.lost && !k.refused) {
        k.refused = Date.now();
        k.error = e.message; // "timeout" where nobody answered
      }
    });
    return k;
  });
}

// until waits for something of all clients that stay: "here", "refused" or "back".
async function until({ what, ms }) {
  const is = {
    here: (k) => k.back && (!k.upgrades || k.socket.io.engine.transport.name === "websocket"),
    refused: (k) => k.refused,
    back: (k) => k.back > k.lost,
  }[what];
  for (const end = Date.now() + ms; !window.kept.every(is) && Date.now() < end; ) await new Promise((next) => setTimeout(next, 10));
  return window.kept.map((k) => ({ mode: k.mode, ok: Boolean(is(k)), lost: k.lost || 0, refused: k.refused || 0, back: k.back || 0, error: k.error || "" }));
}

const commands = {
  // visit {group, page, url, name, modes: [{mode, transports}], tries} has a page at an address connect in each mode, one after
  // the other. Who does not get there tries again.
  async visit({ group, page: address, url, name, modes, tries }) {
    const page = await open(group, address);
    const visits = [];
    for (const m of modes) {
      for (let n = 1, v = {}; n <= tries && !v.connected; n++) {
        v = await page.evaluate(visit, { url, name, ...m });
        visits.push(v);
      }
    }
    return { visits };
  },
  // stay {group, page, url, name, modes} has a page connect in each mode, and waits until all are.
  async stay({ group, page: address, url, name, modes }) {
    const page = await open(group, address);
    await page.evaluate(stay, { url, name, modes });
    return { kept: await page.evaluate(until, { what: "here", ms: 20_000 }) };
  },
  // until {group, what, ms} waits until those have met something.
  async until({ group, what, ms }) {
    return { kept: await (await open(group)).evaluate(until, { what, ms }) };
  },
  // close {group} closes its page, and forgets its cookies.
  async close({ group }) {
    await groups.get(group).context.close();
    groups.delete(group);
    return {};
  },
};

async function run(line) {
  const command = JSON.parse(line);
  let r;
  try {
    r = await commands[command.do](command);
  } catch (e) {
    r = { error: String(e.stack || e) };
  }
  process.stdout.write(JSON.stringify({ id: command.id, ...r }) + "\n");
}

const lines = createInterface({ input: process.stdin });
lines.on("line", run);
lines.on("close", async () => {
  await browser.close();
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  process.exit(0);
});
