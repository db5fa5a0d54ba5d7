// origins.mjs opens pages in headless Chromium and has each connect, as told on standard input:
// a JSON list of {page, tests: [{name, url, transports, credentials}]}. It prints a line of JSON for
// each test: {name, connected, transport, answer, error}.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import puppeteer from "puppeteer-core";

const work = JSON.parse(await text(process.stdin));
const profile = mkdtempSync(join(tmpdir(), "atoll-chromium-"));
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  headless: true,
  userDataDir: profile,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding"],
});

// connect runs in the page.
function connect({ name, url, transports, credentials }) {
  return new Promise((done) => {
    const s = io(url, { transports, withCredentials: credentials, query: { name }, forceNew: true, reconnection: false, timeout: 10_000 });
    const end = (r) => { // when its last request has left, since cookies are cleared then
      const { engine } = s.io;
      if (engine.readyState === "closed") done({ name, ...r });
      else engine.once("close", () => setTimeout(done, 30, { name, ...r }));
      s.disconnect();
    };
    s.on("connect_error", (e) => end({ connected: false, error: e.message }));
    s.on("connect", () => {
      const talk = async () => {
        try {
          const answer = await s.timeout(10_000).emitWithAck("hello", name);
          end({ connected: true, transport: s.io.engine.transport.name, answer });
        } catch (e) {
          end({ connected: true, transport: s.io.engine.transport.name, error: e.message });
        }
      };
      const { engine } = s.io;
      if (transports.length === 2 && engine.transport.name === "polling") engine.once("upgrade", talk);
      else talk();
    });
  });
}

try {
  for (const { page: address, tests } of work) {
    const page = await browser.newPage();
    const devtools = await page.createCDPSession();
    await page.goto(address);
    for (const test of tests) {
      await devtools.send("Network.clearBrowserCookies");
      console.log(JSON.stringify(await page.evaluate(connect, test)));
    }
    await page.close();
  }
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
}
