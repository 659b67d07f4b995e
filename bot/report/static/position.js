// The open position in R with its protection and hedge, and the money behind it.

import { byId, describe, element, number, percent, plain, utc } from "/format.js";

const SVG = "http://www.w3.org/2000/svg";

export function showPosition(seen) {
  position(seen);
  money(seen);
}

function position(seen) {
  const trade = seen.trade;
  byId("position-r").textContent = trade ? `${number(trade.r, 2, true)} R` : "";
  byId("position-r").className = `number ${trade && trade.r < 0 ? "bad" : "good"}`;
  if (!trade) {
    byId("position").replaceChildren(element("dt", "none"));
    byId("legs").replaceChildren();
    byId("ladder").toggleAttribute("hidden", true);
    return;
  }
  const covered = trade.covered !== null && trade.qty !== null ? trade.covered >= trade.qty : null;
  describe(byId("position"), [
    [trade.side, `${plain(trade.qty)} at ${number(trade.entry, 1)}`],
    ["state", trade.state || "-"],
    ["stop", `${number(trade.stop, 1)} ${trade.stop_kind}`.trim()],
    ["targets", `${number(trade.tp1, 1)} · ${number(trade.tp2, 1)}`],
    ["risk", `${number(trade.risk_quote)} USDT, expected cost ${number(trade.cost_r)} R`],
    ["protected", `${covered === null ? "-" : covered ? "yes" : "NOT WHOLLY"}, longest without a stop ${number(trade.naked_ms, 0)} ms`, covered === false ? "bad" : ""],
    ["net BTC beta", number(trade.net_beta, 2)],
    ["since", utc(trade.opened_ms, true) || "-"],
  ]);
  ladder(trade, seen.price);
  byId("legs").replaceChildren(...seen.legs.map((leg) => {
    const size = leg.qty === null ? "" : `${leg.side} ${plain(leg.qty)} at ${number(leg.entry)}, stop ${number(leg.stop)}`;
    const fit = leg.beta === null ? "" : `beta ${number(leg.beta)}, R² ${number(leg.r2)}`;
    return element("li", ["hedge", leg.symbol, size, fit, leg.note].filter(Boolean).join(" · "));
  }));
}

// Stop, entry, targets and price on one line, so that R can be seen.
function ladder(trade, price) {
  const marks = [["stop", trade.stop, "stop"], ["entry", trade.entry, ""], ["TP1", trade.tp1, "target"], ["TP2", trade.tp2, "target"], ["", price, "now"]]
    .filter(([, value]) => value !== null);
  const values = marks.map(([, value]) => value);
  const low = Math.min(...values);
  const span = Math.max(...values) - low;
  byId("ladder").toggleAttribute("hidden", marks.length < 3 || !(span > 0));
  if (!(span > 0)) return;
  const nodes = [line(10, 290, 28, 28, "")];
  for (const [label, value, name] of marks) {
    const x = 15 + (270 * (value - low)) / span;
    nodes.push(line(x, x, 18, 38, name));
    const text = document.createElementNS(SVG, "text");
    text.setAttribute("x", x);
    text.setAttribute("y", name === "now" ? 52 : 12);
    text.textContent = label || number(value, 1);
    nodes.push(text);
  }
  byId("ladder").replaceChildren(...nodes);
}

function line(x1, x2, y1, y2, name) {
  const node = document.createElementNS(SVG, "line");
  for (const [key, value] of Object.entries({ x1, x2, y1, y2, class: name })) node.setAttribute(key, value);
  return node;
}

function money(seen) {
  const money = seen.money;
  const rows = [
    ["equity", `${number(money.equity)} USDT`],
    ["wallet", `${number(money.wallet)} USDT`],
    ["today", `${number(money.day_r, 2, true)} day R`, money.day_r < 0 ? "bad" : ""],
    ["below the peak", percent(money.drawdown)],
    ["entries", seen.entries.allowed ? "allowed" : `off: ${seen.entries.reason}`, seen.entries.allowed ? "" : "bad"],
  ];
  for (const row of seen.limits) rows.push([row.name, row.text + (row.hit ? " (rests)" : ""), row.hit ? "bad" : ""]);
  for (const [name, value] of Object.entries(seen.counters)) rows.push([name.replaceAll("_", " "), typeof value === "number" ? plain(value) : String(value)]);
  describe(byId("money"), rows);
}
