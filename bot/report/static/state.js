// What the engine holds now: banner, twelve lights, position, money. Each call replaces what stood there.

import { byId, describe, element, number, percent, plain, utc } from "/format.js";

const SVG = "http://www.w3.org/2000/svg";

export function showState(seen) {
  banner(seen);
  for (const side of ["long", "short"]) lights(side, seen.sides[side]);
  const { open_ms, code, reason } = seen.verdict;
  byId("verdict").textContent = open_ms
    ? `Bar ${utc(open_ms)}: ${code ?? "no_signal"}${reason ? ` · ${reason}` : ""}`
    : "No bar has been decided yet.";
  position(seen);
  money(seen);
}

export function trouble(lines) {
  byId("trouble").textContent = lines.join("\n");
  byId("trouble").hidden = lines.length === 0;
}

function banner(seen) {
  byId("banner").className = seen.real_money ? "real" : "";
  byId("mode").textContent = seen.mode;
  byId("symbol").textContent = seen.symbol;
  byId("price").textContent = number(seen.price, 1);
  byId("clock").textContent = seen.clock_ms ? `exchange ${utc(seen.clock_ms, true)} UTC` : "";
  byId("lag").textContent = seen.lag_ms === null ? "" : `lag ${number(seen.lag_ms, 0)} ms`;
  byId("stage").textContent = [seen.profile, seen.stage].filter(Boolean).join(" · ");
  const position = seen.trade && seen.trade.qty ? `${number(seen.trade.r, 2, true)} R · ` : "";
  document.title = `${position}${seen.venue || "bot"}`;
  const lines = seen.feeds_lost.map((name) => `The stream ${name} is not heard.`);
  if (!seen.entries.allowed) lines.push(`Entries are off. ${seen.entries.reason}`.trim());
  trouble(lines);
}

function lights(side, state) {
  byId(`${side}-count`).textContent = `${state.count} of 6`;
  byId(side).replaceChildren(...state.lights.map((light) => {
    const row = element("li", "", light.on ? "on" : "");
    row.append(element("span", light.label, "label"), element("span", light.number, "evidence"));
    row.setAttribute("aria-label", `${light.label}: ${light.on === null ? "not known" : light.on ? "yes" : "no"} ${light.number}`);
    return row;
  }));
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
  describe(byId("position"), [
    [trade.side, `${plain(trade.qty)} at ${number(trade.entry, 1)}`],
    ["state", trade.state || "-"],
    ["stop", `${number(trade.stop, 1)} ${trade.stop_kind}`.trim()],
    ["targets", `${number(trade.tp1, 1)} · ${number(trade.tp2, 1)}`],
    ["risk", `${number(trade.risk_quote)} USDT`],
    ["since", utc(trade.opened_ms, true) || "-"],
  ]);
  ladder(trade, seen.price);
  byId("legs").replaceChildren(...seen.legs.map((leg) => {
    const size = leg.qty === null ? "" : `${leg.side} ${plain(leg.qty)} at ${number(leg.entry)}, stop ${number(leg.stop)}`;
    return element("li", [leg.symbol, size, leg.note].filter(Boolean).join(" · "));
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
    ["today", `${number(money.day_r, 2, true)} R`, money.day_r < 0 ? "bad" : ""],
    ["below the peak", percent(money.drawdown)],
  ];
  for (const row of seen.limits) rows.push([row.name, row.text + (row.hit ? " (rests)" : ""), row.hit ? "bad" : ""]);
  for (const [name, value] of Object.entries(seen.counters)) rows.push([name.replaceAll("_", " "), String(value)]);
  describe(byId("money"), rows);
}
