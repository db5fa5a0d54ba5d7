// picture.mjs sets a scene in a running `atoll demo` and takes the pictures of the
// README: docs/demo.png and docs/demo-dark.png, and a narrow one for the eye.
//
//   node picture.mjs URL folder
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const [url, folder] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "atoll-chromium-"));
const sleep = (ms) => new Promise((r) => setTimeout(r, ms));

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  headless: true,
  userDataDir: profile,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding"],
});

async function open(name, query = "") {
  const page = await browser.newPage();
  await page.evaluateOnNewDocument((name) => sessionStorage.setItem("name", name), name);
  await page.goto(url + query);
  await page.waitForSelector("body[data-state=connected]");
  return page;
}

const say = (page, text) => page.evaluate((text) => {
  document.querySelector("[data-testid=text]").value = text;
  document.getElementById("say").requestSubmit();
}, text);

const post = (path) => fetch(url + path, { method: "POST" });

try {
  const names = ["Ada", "Manta", "Heron", "Turtle", "Noddy", "Conch", "Petrel", "Tern"];
  const tabs = [];
  for (const [i, name] of names.entries()) tabs.push(await open(name, i === 2 || i === 5 ? "?transport=polling" : ""));
  const me = tabs[0];
  const where = (t) => t.evaluate(() => document.body.dataset.node);
  await me.bringToFront();
  await me.setViewport({ width: 1280, height: 720 });
  await sleep(1500);
  const mine = await where(me);
  await say(tabs[1], "Which island are you on?");
  await sleep(400);
  await say(me, `${mine}. Shall I end it?`);
  await sleep(400);
  await say(tabs[2], "Do it, I want to see you swim");
  await sleep(900);
  await post(`/demo/nodes/${mine}/kill`);
  await sleep(1500);
  await say(me, "Still here");
  await sleep(500);
  await post(`/demo/nodes/${mine}/start`);
  await me.waitForSelector(`[data-testid=node-${mine}][data-state=up]`);
  for (const [i, name] of ["Dolphin", "Plover"].entries()) tabs.push(await open(name, i ? "?transport=websocket" : ""));
  await me.bringToFront();
  await sleep(4500); // who drifted is gone from the picture
  await say(tabs[8], "And it is back, I am on it");
  await sleep(1200);

  for (const [name, width, height, scheme, full] of [
    ["demo", 1280, 720, "light"], ["demo-dark", 1280, 720, "dark"], ["narrow", 390, 844, "light", true], ["narrow-dark", 390, 844, "dark", true],
    ["large", 1720, 1000, "light"],
  ]) {
    await me.setViewport({ width, height });
    await me.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await sleep(900);
    if (!full) {
      await say(tabs[3], scheme === "light" ? "Nothing was lost, either" : "Not one message missing");
      await sleep(250);
      await say(tabs[1], scheme === "light" ? "I did not notice a thing" : "And not one twice");
      await sleep(650);
    }
    await me.screenshot({ path: join(folder, `${name}.png`), fullPage: Boolean(full) });
  }
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
}
