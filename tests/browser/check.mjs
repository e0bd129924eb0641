// SPDX-License-Identifier: GPL-3.0-or-later
// node check.mjs PAGE.html…: what a browser and two checkers find wrong with pages that anybody
// should be able to read, on a wide and a narrow screen, light and dark, and on paper. Prints JSON:
// for each page a list of findings. With SHOTS=folder it also keeps pictures of what it saw.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { HtmlValidate } from "html-validate";
import { chromium } from "playwright-core";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const SCREENS = [[1280, 900, "light"], [390, 844, "dark"]];
if (process.env.SHOTS) SCREENS.push([1280, 900, "dark"], [390, 844, "light"]);
const PAPER = { width: 703, height: 1032 }; // A4 without margins of 12 mm, at 96 pixels an inch
const BOARD_PAGES = 2;

const RULES = new HtmlValidate({
  root: true,
  extends: ["html-validate:recommended", "html-validate:a11y"],
  rules: {
    "long-title": "off", // a phase has the title that its people give it
    "no-inline-style": "off", // matplotlib's SVG has its colours there
    "no-trailing-whitespace": "off", // SQL and plans are shown as they are
    "svg-focusable": "off",
    "tel-non-breaking": "off",
  },
});

async function validated(file) {
  const report = await RULES.validateString(await readFile(file, "utf-8"));
  return report.results.flatMap((result) =>
    result.messages.map((m) => `html-validate ${m.ruleId}, line ${m.line}: ${m.message}`));
}

async function accessible(page, where) {
  await page.addScriptTag({ path: AXE });
  const { violations } = await page.evaluate(() => window.axe.run());
  return violations.flatMap((v) =>
    v.nodes.map((node) => `axe ${v.id}, ${where}: ${node.target.join(" ")}: ${v.help}`));
}

async function onScreen(browser, file, width, height, colorScheme) {
  const context = await browser.newContext({
    viewport: { width, height }, colorScheme, bypassCSP: true, offline: true,
  });
  const page = await context.newPage();
  const where = `${width} px, ${colorScheme}`;
  await page.goto(pathToFileURL(file).href);
  await kept(page, `${basename(file, ".html")}-${width}-${colorScheme}`);
  const found = await folded(page, where, height);
  await page.evaluate(() => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
  await kept(page, `${basename(file, ".html")}-${width}-${colorScheme}-open`, true);
  found.push(...await accessible(page, where));
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wide > 0) found.push(`${where}: the page is ${wide} px wider than the screen`);
  await context.close();
  return found;
}

// What a reader sees without scrolling or unfolding: on a wide screen the whole decision.
async function folded(page, where, height) {
  const bottom = await page.evaluate(() =>
    document.querySelector(".first")?.getBoundingClientRect().bottom ?? 0);
  const screens = where.startsWith("1280") ? 1 : 2;
  return bottom > height * screens
    ? [`${where}: the decision ends at ${Math.round(bottom)} px, after ${screens} screens`] : [];
}

async function onPaper(browser, file) {
  const context = await browser.newContext({ viewport: PAPER, offline: true });
  const page = await context.newPage();
  await page.emulateMedia({ media: "print" });
  await page.goto(pathToFileURL(file).href);
  if (process.env.SHOTS) {
    await page.pdf({ format: "A4", path: join(process.env.SHOTS, `${basename(file, ".html")}.pdf`) });
  }
  const top = await page.evaluate(() => document.querySelector(".evidence")?.offsetTop ?? 0);
  await context.close();
  return top > BOARD_PAGES * PAPER.height
    ? [`paper: the evidence begins after ${(top / PAPER.height).toFixed(1)} pages`] : [];
}

async function kept(page, name, fullPage = false) {
  if (process.env.SHOTS) await page.screenshot({ path: join(process.env.SHOTS, `${name}.png`), fullPage });
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", "--disable-quic", "--no-first-run"],
});
const found = {};
try {
  for (const file of process.argv.slice(2)) {
    found[basename(file)] = [...await validated(file), ...await onPaper(browser, file)];
    for (const screen of SCREENS) {
      found[basename(file)].push(...await onScreen(browser, file, ...screen));
    }
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify(found, null, 1));
