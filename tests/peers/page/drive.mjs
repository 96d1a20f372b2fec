// A browser for tests in Rust: reads one command as a line of JSON, does it, answers with a line of JSON.
//
// Usage: node drive.mjs /usr/bin/chromium
//
// {"page":"a","do":"open","url":…,"width":…,"height":…,"scheme":"light"|"dark"}   a page of its own, with no cookies
// {"page":"a","do":"go","url":…}            goes to an address
// {"page":"a","do":"click","at":SELECTOR}   and fill (with "text"), press (with "text"), select (with "text")
// {"page":"a","do":"text","at":SELECTOR}    its text, or null
// {"page":"a","do":"wait","at":SELECTOR,"text":…}   until it is visible, with this text in it where one is given
// {"page":"a","do":"gone","at":SELECTOR}    until it is not visible
// {"page":"a","do":"delays"}                milliseconds from each change of a rollout to when the page showed it
// {"page":"a","do":"posts"}                 addresses of the orders that were sent
// {"page":"a","do":"errors"}                errors of the console and of scripts, and empties that list
// {"page":"a","do":"axe"}                   serious and critical findings of axe
// {"page":"a","do":"width"}                 how wide the content is
// {"page":"a","do":"cookies"}               cookies, with what a browser knows of them
// {"page":"a","do":"shot","path":…}         a picture of all of it; with "view" of what is seen
import { AxeBuilder } from "@axe-core/playwright";
import { chromium } from "playwright-core";
import { createInterface } from "node:readline";

// Longer than anything that is waited for takes on a busy machine.
const PATIENCE_MS = 60000;

const browser = await chromium.launch({
  executablePath: process.argv[2],
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
  ],
});
const pages = new Map();

// In the page: notes when the part that the server made was renewed, beside the time of the change that it shows.
function observe() {
  window.delays = [];
  let last = 0;
  const look = () => {
    const at = Number(document.getElementById("state")?.dataset.atMs ?? 0);
    if (last && at > last) window.delays.push(Date.now() - at);
    last = Math.max(last, at);
  };
  new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true });
}

async function open({ page: name, url, width, height, scheme }) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const noted = { page, context, errors: [], posts: [] };
  page.on("console", (message) => message.type() === "error" && noted.errors.push(message.text()));
  page.on("pageerror", (error) => noted.errors.push(`script: ${error}`));
  page.on("dialog", (dialog) => {
    noted.errors.push(`dialog: ${dialog.message()}`);
    return dialog.dismiss();
  });
  page.on("request", (request) => request.method() === "POST" && noted.posts.push(new URL(request.url()).pathname));
  await page.addInitScript(observe);
  pages.set(name, noted);
  await page.goto(url, { waitUntil: "domcontentloaded" });
}

const commands = {
  go: ({ page }, { url }) => page.goto(url, { waitUntil: "domcontentloaded" }).then(() => null),
  click: ({ page }, { at }) => page.locator(at).click(),
  fill: ({ page }, { at, text }) => page.locator(at).fill(text),
  press: ({ page }, { at, text }) => page.locator(at).press(text),
  select: ({ page }, { at, text }) => page.locator(at).selectOption(text).then(() => null),
  text: async ({ page }, { at }) => ((await page.locator(at).count()) ? page.locator(at).first().textContent() : null),
  wait: ({ page }, { at, text }) => page.locator(at).filter(text ? { hasText: text } : {}).first().waitFor(),
  gone: ({ page }, { at }) => page.locator(at).first().waitFor({ state: "hidden" }),
  delays: ({ page }) => page.evaluate(() => window.delays.splice(0)),
  posts: ({ posts }) => posts,
  errors: ({ errors }) => errors.splice(0),
  width: ({ page }) => page.evaluate(() => document.documentElement.scrollWidth),
  cookies: ({ context }) => context.cookies(),
  shot: ({ page }, { path, view }) => page.screenshot({ path, fullPage: !view, animations: "disabled" }).then(() => null),
  axe: async ({ page }) => {
    const { violations } = await new AxeBuilder({ page }).analyze();
    const bad = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    return bad.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).join(" | ")}`);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    const done = command.do === "open" ? await open(command) : await commands[command.do](pages.get(command.page), command);
    answer = { done: done ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
