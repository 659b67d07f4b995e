// What has been: trades, the equity line, and the last things that happened.

import { byId, element, number, plain, utc } from "/format.js";

const SVG = "http://www.w3.org/2000/svg";
const MOST_TRADES = 200;
const MOST_NEWS = 50;
const MOST_POINTS = 4000;

let trades = [];
let points = [];
let news = [];

let watchers = [];
let onPress = () => {};

export function onTrades(watcher) {
  watchers.push(watcher);
}

export function wireTrades(press) {
  onPress = press;
}

export function setTrades(rows) {
  trades = rows.filter((row) => row.qty > 0).slice(-MOST_TRADES);
  drawTrades();
  for (const watcher of watchers) watcher(trades);
}

export function addTrades(rows) {
  const known = new Set(trades.map((row) => row.trade_id));
  setTrades([...trades, ...rows.filter((row) => !known.has(row.trade_id))]);
}

function drawTrades() {
  byId("trades-count").textContent = trades.length ? String(trades.length) : "";
  byId("trades-none").hidden = trades.length > 0;
  byId("trades").replaceChildren(...trades.slice().reverse().map((row) => {
    const line = document.createElement("tr");
    const cells = [
      utc(row.closed_ms), row.side, row.exit_reason, number(row.r_multiple, 2, true), number(row.alpha_r, 2, true), number(row.hedge_r, 2, true),
      plain(row.qty), number(row.entry_price, 1), number(row.exit_price, 1), number(row.fees), number(row.naked_ms, 0), number(row.net_beta),
    ];
    line.append(...cells.map((text, i) => element("td", text, i === 3 ? (row.r_multiple < 0 ? "bad" : "good") : "")));
    const open = element("button", cells[0], "link");
    open.type = "button";
    open.title = "Show the bar of its signal as it was";
    line.firstChild.replaceChildren(open);
    line.addEventListener("click", () => onPress(row));
    return line;
  }));
}

export function setEquity(rows) {
  points = rows;
  drawEquity();
}

export function addEquity(rows) {
  points.push(...rows);
  if (points.length > MOST_POINTS) points = points.filter((_, i) => i % 2 === 0 || i === points.length - 1);
  drawEquity();
}

function drawEquity() {
  const svg = byId("equity");
  if (points.length < 2) {
    svg.replaceChildren();
    return;
  }
  const times = points.map(([at]) => at);
  const values = points.map(([, value]) => value);
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  const first = times[0];
  const span = Math.max(1, times[times.length - 1] - first);
  const height = (value) => 170 - (160 * (value - low)) / (high - low || 1);
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", points.map(([at, value]) => `${((900 * (at - first)) / span).toFixed(1)},${height(value).toFixed(1)}`).join(" "));
  const start = document.createElementNS(SVG, "line");
  for (const [key, value] of Object.entries({ x1: 0, x2: 900, y1: height(values[0]), y2: height(values[0]) })) start.setAttribute(key, value);
  svg.replaceChildren(start, line);
  byId("equity-now").textContent = `${number(values[values.length - 1])} USDT`;
  byId("equity-range").textContent = `${utc(first)} to ${utc(times[times.length - 1])} UTC · lowest ${number(low)} · highest ${number(high)}`;
}

export function setNews(rows) {
  news = rows.slice(-MOST_NEWS);
  byId("news").replaceChildren(...news.slice().reverse().map((row) => element("li", row.text, row.weight)));
}

export function addNews(rows) {
  setNews([...news, ...rows]);
}
