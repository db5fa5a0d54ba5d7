// chat.mjs drives the page of `atoll demo` in headless Chromium, as people would: six
// tabs that write, a node that is killed while they do, a node that comes back. It prints
// one line of JSON for each check, and at last {"done":true}.
//
//   node chat.mjs URL [folder for screenshots]
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const [url, pictures] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "atoll-chromium-"));
const sleep = (ms) => new Promise((r) => setTimeout(r, ms));
let failed = false;

function check(name, ok, got) {
  if (!ok) failed = true;
  console.log(JSON.stringify({ check: name, ok: Boolean(ok), got }));
}

async function until(what, f, limit = 10_000) {
  const end = Date.now() + limit;
  for (;;) {
    const v = await f();
    if (v) return v;
    if (Date.now() > end) throw new Error(`not within ${limit} ms: ${what}`);
    await sleep(25);
  }
}

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  headless: true,
  userDataDir: profile,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding"],
});

// open opens a tab that keeps account of each message that was ever put into its list.
async function open(query = "") {
  const page = await browser.newPage();
  page.errors = [];
  page.on("pageerror", (e) => page.errors.push(String(e)));
  page.on("request", (r) => { if (new URL(r.url()).host !== new URL(url).host && !r.url().startsWith("data:")) page.errors.push(`asked for ${r.url()}`); });
  await page.evaluateOnNewDocument(() => {
    window.account = [];
    document.addEventListener("DOMContentLoaded", () => {
      new MutationObserver((list) => {
        for (const m of list) for (const li of m.addedNodes) if (li.dataset?.from) window.account.push([li.dataset.from, Number(li.dataset.seq)]);
      }).observe(document.getElementById("log"), { childList: true });
    });
  });
  await page.goto(url + query);
  await until("the tab is connected", async () => (await look(page)).state === "connected");
  return page;
}

const look = (page) => page.evaluate(() => ({ ...document.body.dataset, written: window.written ?? 0 }));

const say = (page, text) => page.evaluate((text) => {
  document.querySelector("[data-testid=text]").value = text;
  document.getElementById("say").requestSubmit();
  window.written = (window.written ?? 0) + 1;
}, text);

// press clicks a button, which needs the tab in front.
async function press(page, button) {
  await page.bringToFront();
  await page.click(`[data-testid=${button}]`);
}

// settled waits until every tab has everything that all have written, then checks that
// it has each message once, and those of each sender in their order.
async function settled(tabs, label) {
  const written = {};
  for (const t of tabs) { const v = await look(t); written[v.tab] = v.written; }
  const total = Object.values(written).reduce((a, b) => a + b, 0);
  let accounts = [];
  try {
    await until("all messages in all tabs", async () => {
      accounts = await Promise.all(tabs.map((t) => t.evaluate(() => window.account)));
      return accounts.every((a) => a.length >= total);
    }, 15_000);
  } catch { /* the check below says what is missing */ }
  await sleep(300);
  accounts = await Promise.all(tabs.map((t) => t.evaluate(() => window.account)));
  const wrong = [];
  accounts.forEach((account, i) => {
    for (const [from, count] of Object.entries(written)) {
      const seqs = account.filter(([f]) => f === from).map(([, s]) => s);
      const ok = seqs.length === count && seqs.every((s, k) => s === k + 1);
      if (!ok) wrong.push({ tab: i, from, want: count, got: seqs.length, first: seqs.find((s, k) => s !== k + 1) });
    }
  });
  check(label, wrong.length === 0, wrong.length ? wrong : { tabs: tabs.length, messages: total, deliveries: total * tabs.length });
}

try {
  const tabs = [];
  for (const query of ["", "?transport=websocket", "?transport=polling", "", "?transport=websocket", ""]) tabs.push(await open(query));
  const places = (await Promise.all(tabs.map(look))).map((v) => v.node);
  check("six tabs are spread over three nodes", new Set(places).size === 3 && places.every((p) => places.filter((q) => q === p).length === 2), places);
  await until("the upgrade to WebSocket", async () => (await look(tabs[0])).transport === "websocket");
  check("a tab that may only poll does", (await look(tabs[2])).transport === "polling");
  await until("the picture shows six sessions", () => tabs[0].evaluate(() => document.getElementById("total-sessions").textContent === "6"));

  // One after the other, and all at once.
  for (let round = 0; round < 3; round++) await Promise.all(tabs.map((t, i) => say(t, `round ${round} of tab ${i}`)));
  await settled(tabs, "each message is in each tab once, in its sender's order");

  // A node is killed while everybody writes.
  const lines = ["The tide is coming in", "Did you see the manta?", "Which island are you on?", "Still here", "Somebody lit a fire", "Nothing lost"];
  await Promise.all(tabs.map((t, i) => t.evaluate((line) => {
    window.writer = setInterval(() => {
      document.querySelector("[data-testid=text]").value = line;
      document.getElementById("say").requestSubmit();
      window.written = (window.written ?? 0) + 1;
    }, 90);
  }, lines[i])));
  await sleep(1000);
  const dead = places[0];
  const victims = tabs.filter((_, i) => places[i] === dead), others = tabs.filter((_, i) => places[i] !== dead);
  await press(others[0], `kill-${dead}`);
  await until(`the tabs of ${dead} are elsewhere`, async () => (await Promise.all(victims.map(look))).every((v) => v.state === "connected" && v.node && v.node !== dead));
  // By the clocks of the pages: from the button to the welcome of another node.
  const pressed = Number((await look(others[0])).pressed);
  const took = (await Promise.all(victims.map(look))).map((v) => Number(v.came) - pressed);
  check("the tabs of a killed node are back on others within 5 s", took.every((ms) => ms > 0 && ms < 5000), { ms: took });
  await until("the picture shows the node down", () => others[0].evaluate((n) => document.querySelector(`[data-testid=node-${n}]`).dataset.state === "down", dead));
  if (pictures) await picture(tabs[0], "killed", 1280, 720, false);
  await sleep(1500);
  await Promise.all(tabs.map((t) => t.evaluate(() => clearInterval(window.writer))));
  await settled(tabs, "nothing is lost and nothing comes twice while a node is killed");
  check("nobody else notices", (await Promise.all(others.map(look))).every((v) => v.disconnects === "0"), (await Promise.all(others.map(look))).map((v) => v.disconnects));
  check("a moved tab says so", (await look(victims[0])).moves === "1");

  // It comes back, and gets new sessions.
  await press(others[0], `start-${dead}`);
  await until(`${dead} is up`, () => others[0].evaluate((n) => document.querySelector(`[data-testid=node-${n}]`).dataset.state === "up", dead));
  const fresh = await until("a new tab on the node that came back", async () => {
    const t = await open();
    if ((await look(t)).node === dead) return t;
    await t.close();
    return null;
  });
  check("a node that came back gets new sessions", true, dead);
  const past = await fresh.evaluate(() => document.querySelectorAll("#log li[data-from]").length);
  check("a new tab on the new node sees what was said before", past >= 20, past);
  const before = await tabs[0].evaluate(() => window.account.length);
  await say(fresh, "Hello from the new one");
  await until("its message is everywhere", async () => (await Promise.all(tabs.map((t) => t.evaluate(() => window.account.length)))).every((n) => n === before + 1));
  const problems = [...tabs, fresh].flatMap((t) => t.errors);
  check("no error in any tab, and nothing loaded from elsewhere", problems.length === 0, problems);

  if (pictures) {
    await say(tabs[0], "Back to three islands");
    await sleep(500);
    await picture(tabs[0], "wide", 1280, 720, false);
    await picture(tabs[0], "wide-dark", 1280, 720, true);
    await picture(tabs[0], "narrow", 390, 844, false, true);
    await picture(tabs[0], "narrow-dark", 390, 844, true, true);
  }
} catch (e) {
  check("the test runs to its end", false, String(e.stack ?? e));
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
}
console.log(JSON.stringify({ done: true }));
process.exitCode = failed ? 1 : 0;

async function picture(page, name, width, height, dark, fullPage = false) {
  await page.bringToFront();
  await page.setViewport({ width, height });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
  await sleep(700);
  await page.screenshot({ path: join(pictures, `${name}.png`), fullPage });
}
