// The chart of the running bot: asks for a symbol once, then for what it lacks whenever a bar has closed.

import { operators } from "/commands.js";
import { byId, number, utc } from "/format.js";
import { onTrades } from "/history.js";
import { mountChart } from "/toolbar.js";
import { lights } from "/state.js";

let page;
let wanted = "";
let loaded = "";
let trades = [];
let newest = {};
let busy = false;
let openTrade = null; // drawn like a closed one, in place of its plan
let openKey = "";

export function startChart() {
  byId("then-close").addEventListener("click", () => { byId("then").hidden = true; });
  onTrades((rows) => {
    trades = rows;
    marks();
  });
}

// The symbols are known with the first state.
export function onState(seen) {
  if (!page) {
    page = mountChart(byId("chart"), { symbols: seen.symbols, onSymbol });
    window.botChart = page.view;
    page.choose(page.first);
  }
  if (loaded) {
    page.view.setForming(seen.forming[loaded]);
    page.view.setLevels(levels(seen));
  }
  const open = seen.trade && seen.trade.opened_ms && seen.trade.signal_ms ? seen.trade : null;
  const key = open ? `${open.id} ${open.entry} ${open.tp2}` : "";
  if (key === openKey) return;
  openKey = key;
  openTrade = open && {
    symbol: seen.symbol, side: open.side, signal_ms: open.signal_ms, opened_ms: open.opened_ms, closed_ms: 0,
    entry_price: open.entry, stop: open.stop0, tp1: open.tp1, tp2: open.tp2, r_multiple: open.r, fills: [],
  };
  marks();
}

function onSymbol(symbol) {
  wanted = symbol;
  load();
}

export function onBars(told) {
  newest = told;
  load();
}

// One request at a time; a change that comes meanwhile is fetched right after.
async function load() {
  if (busy || !page) return;
  busy = true;
  try {
    while (wanted !== loaded || lacks()) {
      const symbol = wanted;
      const data = page.view.data;
      const after = symbol === loaded && data.time.length ? data.time.at(-1) * 1000 : null;
      const response = await fetch(`/api/chart?symbol=${symbol}${after === null ? "" : `&after=${after}`}`, { headers: operators() });
      if (response.status === 429) { await pause(Number(response.headers.get("Retry-After")) || 1); continue; }
      if (!response.ok) break;
      const payload = await response.json();
      if (symbol !== wanted) continue;
      if (after === null || !page.view.add(payload)) {
        if (after !== null) { loaded = ""; continue; } // bars were lost in between: everything anew
        page.view.set(payload);
      }
      loaded = symbol;
      newest[symbol] = Math.max(newest[symbol] ?? 0, (page.view.data.time.at(-1) ?? 0) * 1000);
      marks();
      page.tell(null);
      if (!payload.time.length) break;
    }
  } catch {
    // The bot is gone for the moment: the next event after it is back asks again.
  } finally {
    busy = false;
  }
}

function pause(seconds) {
  return new Promise((resolve) => { setTimeout(resolve, 1000 * seconds); });
}

function lacks() {
  return (newest[loaded] ?? 0) > (page.view.data.time.at(-1) ?? 0) * 1000;
}

function marks() {
  if (!page || !loaded) return;
  const rows = trades.map((row) => ({ ...row, fills: row.fills.map((fill) => [fill.at_ms, fill.symbol, fill.role, fill.side, fill.price, fill.qty]) }));
  page.view.setTrades(openTrade && openTrade.tp2 !== null ? [...rows, openTrade] : rows);
}

// Entry, stop and targets in force, with what they are worth in R.
function levels(seen) {
  const rows = [];
  const trade = seen.trade;
  if (trade && loaded === seen.symbol) {
    const risk = trade.entry !== null && trade.stop0 !== null ? Math.abs(trade.entry - trade.stop0) : null;
    const worth = (price) => (risk ? ` ${number(((price - trade.entry) * (trade.side === "SHORT" ? -1 : 1)) / risk, 2, true)} R` : "");
    if (trade.entry !== null) rows.push([trade.entry, `entry ${trade.side}`, "text"]);
    if (trade.stop !== null) rows.push([trade.stop, `${trade.stop_kind || "stop"}${worth(trade.stop)}`, "down"]);
    for (const name of ["tp1", "tp2"]) if (trade[name] !== null) rows.push([trade[name], `${name.toUpperCase()}${worth(trade[name])}`, "up"]);
  }
  for (const leg of seen.legs) {
    if (leg.symbol !== loaded) continue;
    if (leg.entry !== null && leg.qty !== null) rows.push([leg.entry, `hedge ${leg.side}`, "text"]);
    if (leg.stop !== null && leg.qty !== null) rows.push([leg.stop, "leg stop", "down"]);
  }
  return rows;
}

// A press on a trade: the chart goes there, and the lights of its bar are shown as they were decided.
export async function showBar(row) {
  const symbol = row.symbol;
  if (page && wanted !== symbol) page.choose(symbol);
  const open = row.signal_ms - page.view.data.interval_ms;
  page?.view.centre(page.view.barAt(open) + 5);
  const box = byId("then");
  box.hidden = false;
  byId("then-title").textContent = `The bar of ${utc(open)} UTC as it was: trade ${row.trade_id}`;
  try {
    const response = await fetch(`/api/bar?open_ms=${open}`);
    const told = await response.json();
    byId("then-verdict").textContent = response.ok ? `${told.verdict.code} · ${told.verdict.reason}` : `${told.error}.`;
    for (const side of ["long", "short"]) lights(`then-${side}`, response.ok ? told.sides[side] : { lights: [] });
  } catch {
    byId("then-verdict").textContent = "The bot did not answer.";
  }
  box.scrollIntoView({ block: "nearest" });
}
