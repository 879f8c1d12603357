// What a page does in a browser, as one JSON object on standard output: node browser.js CHROMIUM PAGE
const { chromium } = require("playwright-core");

(async () => {
  const browser = await chromium.launch({ executablePath: process.argv[2], args: ["--no-sandbox"] });
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, acceptDownloads: true });
  const page = await context.newPage();
  const found = { requests: [], problems: [] };
  page.on("console", message => found.problems.push(message.text()));
  page.on("pageerror", error => found.problems.push(error.message));
  page.on("request", request => { if (!request.url().startsWith("file://") && !request.url().startsWith("blob:")) found.requests.push(request.url()); });
  await page.goto(`file://${process.argv[3]}`);
  await page.waitForSelector("html[data-drawn]", { timeout: 60000 });
  found.title = await page.title();
  found.charts = await page.$$eval(".picture", all => Object.fromEntries(all.map(figure => [figure.id, figure.querySelectorAll(".chart svg path[aria-label]").length])));
  found.images = (await page.$$("img")).length;
  found.alternatives = await page.$$eval(".chart svg", all => all.filter(svg => svg.getAttribute("role") === "img" && svg.getAttribute("aria-label").length > 30).length);
  found.labels = await page.$$eval("#function-map-0 path[aria-label*='held out lift']", all => all.map(path => path.getAttribute("aria-label")));
  const headline = () => page.$eval(".card h4", node => node.textContent);
  const texts = () => page.$$eval(".card .texts li", all => all.map(node => node.textContent));
  found.first = await headline();
  const cells = await page.$$("#function-map-0 path[aria-label*='held out lift']");
  const last = cells[cells.length - 1];
  await last.hover();
  await page.waitForSelector("#vg-tooltip-element.visible");
  found.tooltip = await page.$eval("#vg-tooltip-element", node => node.textContent);
  found.clicked = await last.getAttribute("aria-label");
  await last.click();
  found.second = await headline();
  found.texts = await texts();
  // By the keyboard alone: into the first select, one function on.
  await page.focus(".cards select");
  await page.keyboard.press("Home");
  found.third = await headline();
  await page.focus(".numbers summary");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".numbers table");
  found.numbers = await page.$$eval(".numbers table tr", all => all.length);
  found.marks = await page.evaluate(() => document.querySelectorAll("mark").length);
  for (const [what, key] of [["csv", "csv"], ["svg", "svg"]]) {
    const [download] = await Promise.all([page.waitForEvent("download"), page.click(`#function-map-0 [data-do=${what}]`)]);
    const stream = await download.createReadStream();
    let text = "";
    for await (const part of stream) text += part;
    found[key] = text;
  }
  for (const [name, width, colorScheme] of [["phone", 390, "light"], ["dark", 1280, "dark"]]) {
    await page.setViewportSize({ width, height: 844 });
    await page.emulateMedia({ colorScheme });
    await page.waitForTimeout(1500);
    found[name] = await page.evaluate(() => ({
      overflow: document.documentElement.scrollWidth - innerWidth,
      paper: getComputedStyle(document.body).backgroundColor,
      ink: getComputedStyle(document.querySelector(".chart svg text")).fill,
    }));
  }
  await browser.close();
  console.log(JSON.stringify(found));
})().catch(error => { console.error(error); process.exit(1); });
