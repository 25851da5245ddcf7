// The page: requests the routes of the service and draws their answers. It loads nothing from other sites.
"use strict";

const POLL_MS = 3000;
const CLOSES = 90;
const LEFT = 56, RIGHT = 8, TOP = 14, BOTTOM = 28; // margins of the chart
const DATE_WIDTH = 78;

const at = (id) => document.getElementById(id);
const figure = (value, significant) => // with one decimal, or more if fewer than the significant digits would be left
  value.toLocaleString("en", Math.abs(value) >= 10 ** (significant - 2) || value === 0
    ? { maximumFractionDigits: 1, minimumFractionDigits: 1 }
    : { maximumSignificantDigits: significant, minimumSignificantDigits: significant });
const price = (value) => figure(value, 5);
const meanError = (value) => figure(value, 3);
const signed = (value, digits) => {
  if (value === null) return "";
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : Number(text) > 0 ? `+${text}` : text;
};
const percent = (value) => (value === null ? "" : Math.round(100 * value) + " %");

let chosen = null;
let versions = ""; // of all models, as JSON
let requests = 0;
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

// Children are added as text or nodes, never as HTML.
function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function shape(name, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function notify(text, failed = false) {
  if (at("notice").textContent !== text) at("notice").textContent = text;
  at("notice").className = failed ? "failed" : "";
}

function fill(table, titles, rows, none) {
  if (rows.length === 0) {
    table.replaceChildren(element("caption", {}, none));
    return;
  }
  const align = (title) => (title.startsWith("#") ? { class: "number" } : {});
  const head = element("tr", {}, ...titles.map((t) => element("th", { scope: "col", ...align(t) }, t.replace("#", ""))));
  const body = rows.map((row) => element("tr", {}, ...row.map((cell, i) => element("td", align(titles[i]), String(cell)))));
  table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
}

// As plot_forecast of the library: closes, then the forecast as a line within its prediction intervals.
function fanChart(answer) {
  // As wide as the page, so that its text has the same size on every screen.
  const width = Math.max(280, at("fan").clientWidth);
  const height = Math.round(Math.max(240, Math.min(380, 0.47 * width)));
  const forecasts = answer.forecasts;
  const day = (text) => Date.parse(text + "T00:00:00Z");
  const closes = answer.closes.map((row) => [day(row.date), row.close]);
  const origin = [day(answer.origin), answer.last_close];
  const ahead = (column) => [origin, ...forecasts.map((row) => [day(row.target_date), row[column]])];
  const intervals = [["wide", "lower_95", "upper_95"], ["narrow", "lower_80", "upper_80"]]
    .filter(([, lower]) => forecasts.every((row) => row[lower] !== null));
  const line = ahead("predicted_price");
  const all = [...closes, ...line, ...intervals.flatMap(([, lower, upper]) => [...ahead(lower), ...ahead(upper)])];
  const [times, values] = [all.map((p) => p[0]), all.map((p) => p[1])];
  const [t0, t1, v0, v1] = [Math.min(...times), Math.max(...times), Math.min(...values), Math.max(...values)];
  const margin = 0.06 * (v1 - v0 || 1);
  const x = (t) => LEFT + ((t - t0) / (t1 - t0 || 1)) * (width - LEFT - RIGHT);
  const y = (v) => TOP + ((v1 + margin - v) / (v1 - v0 + 2 * margin)) * (height - TOP - BOTTOM);
  const path = (points) => points.map(([t, v], i) => `${i ? "L" : "M"}${x(t).toFixed(1)} ${y(v).toFixed(1)}`).join("");

  const summary = forecasts.map((row) => `${row.horizon} sessions ahead ${price(row.predicted_price)}`).join(", ");
  const title = `${answer.symbol}: forecast of ${answer.origin}, model ${answer.model_version}`;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${summary}` });
  const step = niceStep((v1 - v0 + 2 * margin) / 5);
  for (let v = Math.ceil((v0 - margin) / step) * step; v <= v1 + margin; v += step) {
    svg.append(shape("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(v), y2: y(v) }));
    svg.append(shape("text", { x: LEFT - 8, y: y(v) + 4, "text-anchor": "end" }, v.toLocaleString("en", { maximumFractionDigits: 12 })));
  }
  const date = (t, anchor) => svg.append(shape("text", { x: x(t), y: height - 8, "text-anchor": anchor },
    new Date(t).toISOString().slice(0, 10)));
  date(t0, "start");
  date(t1, "end");
  const between = Math.min(x(origin[0]) - x(t0), x(t1) - x(origin[0]));
  if (between > 1.5 * DATE_WIDTH) date(origin[0], "middle");
  for (const [name, lower, upper] of intervals) {
    svg.append(shape("path", { class: name, d: path([...ahead(lower), ...ahead(upper).reverse()]) + "Z" }));
  }
  svg.append(shape("line", { class: "origin", x1: x(origin[0]), x2: x(origin[0]), y1: TOP, y2: height - BOTTOM }));
  if (closes.length > 1) svg.append(shape("path", { class: "close", d: path(closes) }));
  svg.append(shape("path", { class: "line", d: path(line) }));
  for (const [t, v] of line) svg.append(shape("circle", { class: "point", cx: x(t), cy: y(v), r: 3.5 }));

  const legend = [["of-close", "close"], ["of-line", "forecast"], ["of-narrow", "80 % interval"], ["of-wide", "95 % interval"]];
  return [element("figcaption", {}, title), svg,
    element("ul", { class: "legend" }, ...legend.map(([name, text]) => element("li", { class: name }, text)))];
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((n) => n * power).find((s) => s >= rough);
}

async function showForecast(symbol) {
  chosen = symbol;
  const request = ++requests;
  for (const button of at("symbols").children) {
    button.setAttribute("aria-pressed", String(button.dataset.symbol === symbol));
  }
  try {
    const answer = await ask("predict", { symbol, closes: CLOSES });
    if (request !== requests) return; // another symbol has been chosen since
    shown = answer;
    at("fan").replaceChildren(...fanChart(answer));
    fill(at("horizons"),
      ["#sessions", "date", "#price", "#change", "direction", "#P(up)", "#confidence", "#80 % interval", "#95 % interval"],
      answer.forecasts.map((row) => [row.horizon, row.target_date, price(row.predicted_price),
        signed(row.change_pct, 1) + " %", row.direction, percent(row.p_up), percent(row.confidence),
        row.lower_80 === null ? "" : `${price(row.lower_80)} – ${price(row.upper_80)}`,
        row.lower_95 === null ? "" : `${price(row.lower_95)} – ${price(row.upper_95)}`]), "");
  } catch (error) {
    if (request !== requests) return;
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
    button.addEventListener("click", () => showForecast(symbol).catch(showError));
    return button;
  }));
  for (const button of at("symbols").children) if (button.dataset.symbol === focused) button.focus();
  if (champions.length === 0) {
    notify("No model has been trained yet. Train one with make train or POST /train.");
    return;
  }
  notify("");
  await showForecast(champions.some(([symbol]) => symbol === chosen) ? chosen : champions[0][0]);
  await showScores();
}

async function showScores() {
  const { scores, left_out, problems } = await ask("scorecard");
  fill(at("scores"),
    ["symbol", "#sessions", "model", "#n", "#pending", "#MAE", "#MAE random walk", "#skill", "#hit rate",
      "#80 % coverage", "#95 % coverage"],
    scores.map((row) => [row.symbol, row.horizon, row.model_version, row.n, row.pending,
      row.mae === null ? "" : meanError(row.mae), row.mae_random_walk === null ? "" : meanError(row.mae_random_walk),
      signed(row.skill, 3), percent(row.hit_rate), percent(row.coverage_80), percent(row.coverage_95)]),
    "No forecast has been recorded yet.");
  const notes = left_out ? [...problems, `${left_out} hindsight forecasts are scored separately`] : problems;
  if (notes.length) notify(notes.join("; "));
}

async function showJobs() {
  const { jobs } = await ask("jobs?limit=20");
  fill(at("jobs"), ["symbol", "status", "#sessions", "#epoch", "#validation loss", "requested", "result"],
    jobs.map((job) => {
      const epoch = job.progress.at(-1);
      return [job.symbol, job.status, job.sessions, epoch ? `${epoch.epoch} of ${epoch.epochs}` : "",
        epoch && epoch.val_loss !== null ? epoch.val_loss.toFixed(4) : "", job.created_at.replace("T", " ").replace("Z", ""),
        job.error ?? (job.result ? `${job.result.promoted ? "new champion: " : ""}${job.result.reason}` : "")];
    }), "No training has been requested yet.");
}

function showError(error) {
  const locked = error instanceof Refused && error.status === 401;
  at("key").hidden = !locked && !sessionStorage.getItem("key");
  notify(locked ? "This service requires an API key." : error.message, true);
}

async function refresh() {
  try {
    await showModels();
    await showJobs();
    if (at("notice").className === "failed") notify("");
  } catch (error) {
    showError(error);
  }
  setTimeout(refresh, POLL_MS);
}

at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", at("token").value);
  at("token").value = "";
  versions = "";
  showModels().then(showJobs).then(() => { at("key").hidden = true; notify(""); }).catch(showError);
});

window.addEventListener("resize", () => {
  if (shown) at("fan").replaceChildren(...fanChart(shown));
});

refresh();
