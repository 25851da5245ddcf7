// The page: asks the service's own routes, and draws what they answer. Nothing comes from elsewhere.
"use strict";

const POLL_MS = 3000;
const CLOSES = 90;
const LEFT = 56, RIGHT = 8, TOP = 14, BOTTOM = 28; // margins of the chart
const DATE_WIDTH = 78;

const at = (id) => document.getElementById(id);
const price = (value) => value.toLocaleString("en", { maximumFractionDigits: 1, minimumFractionDigits: 1 });
const signed = (value, digits) => {
  if (value === null) return "";
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : Number(text) > 0 ? `+${text}` : text;
};
const percent = (value) => (value === null ? "" : Math.round(100 * value) + " %");

let chosen = null;
let versions = "";
let asked = 0;
let shown = null;

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, body) {
  const headers = {};
  const token = sessionStorage.getItem("key");
  if (token) headers["X-API-Key"] = token;
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  const content = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, content.message);
  return content;
}

// Text goes in as text, never as HTML.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shape(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function say(text, failed = false) {
  if (at("notice").textContent !== text) at("notice").textContent = text;
  at("notice").className = failed ? "failed" : "";
}

function fill(table, titles, rows, none) {
  if (rows.length === 0) {
    table.replaceChildren(element("caption", {}, none));
    return;
  }
  const kind = (title) => (title.startsWith("#") ? { class: "number" } : {});
  const head = element("tr", {}, ...titles.map((t) => element("th", { scope: "col", ...kind(t) }, t.replace("#", ""))));
  const body = rows.map((row) => element("tr", {}, ...row.map((cell, i) => element("td", kind(titles[i]), String(cell)))));
  table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
}

// What the library's plot_forecast draws: closes, then the forecast as a line within its ranges.
function fanOf(answer) {
  // As wide as there is room for, so that its text has the page's size on every screen.
  const width = Math.max(280, at("fan").clientWidth);
  const height = Math.round(Math.max(240, Math.min(380, 0.47 * width)));
  const forecasts = answer.forecasts;
  const day = (text) => Date.parse(text + "T00:00:00Z");
  const closes = answer.closes.map((one) => [day(one.date), one.close]);
  const origin = [day(answer.origin), answer.last_close];
  const ahead = (column) => [origin, ...forecasts.map((one) => [day(one.target_date), one[column]])];
  const ranges = [["wide", "lower_95", "upper_95"], ["narrow", "lower_80", "upper_80"]]
    .filter(([, lower]) => forecasts.every((one) => one[lower] !== null));
  const line = ahead("predicted_price");
  const all = [...closes, ...line, ...ranges.flatMap(([, lower, upper]) => [...ahead(lower), ...ahead(upper)])];
  const [times, values] = [all.map((p) => p[0]), all.map((p) => p[1])];
  const [t0, t1, v0, v1] = [Math.min(...times), Math.max(...times), Math.min(...values), Math.max(...values)];
  const margin = 0.06 * (v1 - v0 || 1);
  const x = (t) => LEFT + ((t - t0) / (t1 - t0 || 1)) * (width - LEFT - RIGHT);
  const y = (v) => TOP + ((v1 + margin - v) / (v1 - v0 + 2 * margin)) * (height - TOP - BOTTOM);
  const path = (points) => points.map(([t, v], i) => `${i ? "L" : "M"}${x(t).toFixed(1)} ${y(v).toFixed(1)}`).join("");

  const words = forecasts.map((one) => `${one.horizon} sessions ahead ${price(one.predicted_price)}`).join(", ");
  const title = `${answer.symbol}: forecast of ${answer.origin}, model ${answer.model_version}`;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${words}` });
  const step = niceStep((v1 - v0 + 2 * margin) / 5);
  for (let v = Math.ceil((v0 - margin) / step) * step; v <= v1 + margin; v += step) {
    svg.append(shape("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(v), y2: y(v) }));
    svg.append(shape("text", { x: LEFT - 8, y: y(v) + 4, "text-anchor": "end" }, v.toLocaleString("en")));
  }
  const date = (t, anchor) => svg.append(shape("text", { x: x(t), y: height - 8, "text-anchor": anchor },
    new Date(t).toISOString().slice(0, 10)));
  date(t0, "start");
  date(t1, "end");
  const between = Math.min(x(origin[0]) - x(t0), x(t1) - x(origin[0]));
  if (between > 1.5 * DATE_WIDTH) date(origin[0], "middle");
  for (const [name, lower, upper] of ranges) {
    svg.append(shape("path", { class: name, d: path([...ahead(lower), ...ahead(upper).reverse()]) + "Z" }));
  }
  svg.append(shape("line", { class: "origin", x1: x(origin[0]), x2: x(origin[0]), y1: TOP, y2: height - BOTTOM }));
  if (closes.length > 1) svg.append(shape("path", { class: "close", d: path(closes) }));
  svg.append(shape("path", { class: "line", d: path(line) }));
  for (const [t, v] of line) svg.append(shape("circle", { class: "point", cx: x(t), cy: y(v), r: 3.5 }));

  const legend = [["of-close", "close"], ["of-line", "forecast"], ["of-narrow", "80 % range"], ["of-wide", "95 % range"]];
  return [element("figcaption", {}, title), svg,
    element("ul", { class: "legend" }, ...legend.map(([name, text]) => element("li", { class: name }, text)))];
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((n) => n * power).find((s) => s >= rough);
}

async function showForecast(symbol) {
  chosen = symbol;
  const turn = ++asked;
  for (const button of at("symbols").children) {
    button.setAttribute("aria-pressed", String(button.dataset.symbol === symbol));
  }
  try {
    const answer = await ask("predict", { symbol, closes: CLOSES });
    if (turn !== asked) return; // another symbol was chosen meanwhile
    shown = answer;
    at("fan").replaceChildren(...fanOf(answer));
    fill(at("horizons"),
      ["#sessions", "date", "#price", "#change", "call", "#rise", "#confidence", "#80 % range", "#95 % range"],
      answer.forecasts.map((one) => [one.horizon, one.target_date, price(one.predicted_price),
        signed(one.change_pct, 1) + " %", one.direction, percent(one.p_up), percent(one.confidence),
        one.lower_80 === null ? "" : `${price(one.lower_80)} - ${price(one.upper_80)}`,
        one.lower_95 === null ? "" : `${price(one.lower_95)} - ${price(one.upper_95)}`]), "");
  } catch (error) {
    if (turn !== asked) return;
    shown = null;
    at("fan").replaceChildren(element("p", {}, `No forecast of ${symbol}: ${error.message}`));
    at("horizons").replaceChildren();
    throw error;
  }
}

async function showModels() {
  const { models } = await ask("models");
  if (JSON.stringify(models) === versions) return;
  versions = JSON.stringify(models);
  const champions = models.map((model) => [model.symbol, model.versions.find((v) => v.aliases.includes("champion"))]);
  const focused = document.activeElement.dataset?.symbol;
  at("symbols").replaceChildren(...champions.map(([symbol, champion]) => {
    const skills = Object.entries(champion?.metrics ?? {}).filter(([name]) => name.startsWith("skill_"))
      .map(([name, value]) => [parseInt(name.slice(6), 10), value]).sort((a, b) => a[0] - b[0]);
    const scores = skills.map(([horizon, skill]) => `${horizon}: ${signed(skill, 3)}`).join("  ");
    const button = element("button", { type: "button", "data-symbol": symbol, "aria-pressed": "false" },
      element("strong", {}, symbol),
      element("small", {}, champion ? `champion ${champion.version}` : "no champion"),
      element("small", {}, scores && `test skill ${scores}`));
    button.addEventListener("click", () => showForecast(symbol).catch(explain));
    return button;
  }));
  for (const button of at("symbols").children) if (button.dataset.symbol === focused) button.focus();
  if (champions.length === 0) {
    say("There is no model yet. Train one with make train, or POST /train.");
    return;
  }
  say("");
  await showForecast(champions.some(([symbol]) => symbol === chosen) ? chosen : champions[0][0]);
  await showScores();
}

async function showScores() {
  const { scores, left_out, problems } = await ask("scorecard");
  fill(at("scores"),
    ["symbol", "#sessions", "model", "#n", "#pending", "#MAE", "#random walk", "#skill", "#calls right", "#in 80 %", "#in 95 %"],
    scores.map((one) => [one.symbol, one.horizon, one.model_version, one.n, one.pending,
      one.mae === null ? "" : price(one.mae), one.mae_random_walk === null ? "" : price(one.mae_random_walk),
      signed(one.skill, 3), percent(one.hit_rate), percent(one.coverage_80), percent(one.coverage_95)]),
    "No forecast has been recorded yet.");
  const notes = left_out ? [...problems, `${left_out} forecasts of days gone by are not scored`] : problems;
  if (notes.length) say(notes.join("; "));
}

async function showJobs() {
  const { jobs } = await ask("jobs?limit=20");
  fill(at("jobs"), ["symbol", "state", "#sessions", "#epoch", "#validation loss", "asked for", "outcome"],
    jobs.map((job) => {
      const epoch = job.progress.at(-1);
      return [job.symbol, job.status, job.sessions, epoch ? `${epoch.epoch} of ${epoch.epochs}` : "",
        epoch && epoch.val_loss !== null ? epoch.val_loss.toFixed(4) : "", job.created_at.replace("T", " ").replace("Z", ""),
        job.error ?? (job.result ? `${job.result.promoted ? "new champion: " : ""}${job.result.reason}` : "")];
    }), "No training has been asked for yet.");
}

function explain(error) {
  const locked = error instanceof Refused && error.status === 401;
  at("key").hidden = !locked && !sessionStorage.getItem("key");
  say(locked ? "This service wants a key." : error.message, true);
}

async function refresh() {
  try {
    await showModels();
    await showJobs();
    if (at("notice").className === "failed") say("");
  } catch (error) {
    explain(error);
  }
  setTimeout(refresh, POLL_MS);
}

at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", at("token").value);
  at("token").value = "";
  versions = "";
  showModels().then(showJobs).then(() => { at("key").hidden = true; say(""); }).catch(explain);
});

window.addEventListener("resize", () => {
  if (shown) at("fan").replaceChildren(...fanOf(shown));
});

refresh();
