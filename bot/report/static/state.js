// What the engine holds now: banner and twelve lights. Each call replaces what stood there.

import { byId, element, number, utc } from "/format.js";

const SVG = "http://www.w3.org/2000/svg";

export function showState(seen) {
  banner(seen);
  for (const side of ["long", "short"]) {
    byId(`${side}-count`).textContent = `${seen.sides[side].count} of 6`;
    lights(side, seen.sides[side]);
  }
  const { open_ms, code, reason } = seen.verdict;
  byId("verdict").textContent = open_ms
    ? `Bar ${utc(open_ms)}: ${code ?? "no_signal"}${reason ? ` · ${reason}` : ""}`
    : "No bar has been decided yet.";
  document.documentElement.dataset.bar = open_ms ?? "";
}

export function trouble(lines) {
  byId("trouble").textContent = lines.join("\n");
  byId("trouble").hidden = lines.length === 0;
}

function banner(seen) {
  byId("banner").dataset.venue = seen.venue;
  byId("mode").textContent = seen.mode;
  byId("symbol").textContent = seen.symbol;
  byId("price").textContent = number(seen.price, 1);
  const open = seen.trade && seen.trade.qty;
  byId("banner-r").textContent = open ? `${seen.trade.side} ${number(seen.trade.r, 2, true)} R` : "flat";
  byId("banner-r").className = `number ${open ? (seen.trade.r < 0 ? "bad" : "good") : ""}`;
  byId("clock").textContent = seen.clock_ms ? `${utc(seen.clock_ms, true)} UTC` : "";
  byId("lag").textContent = seen.lag_ms === null ? "" : `lag ${number(seen.lag_ms, 0)} ms`;
  byId("stage").textContent = [seen.profile, seen.stage, seen.speed ? `${seen.speed}x` : ""].filter(Boolean).join(" · ");
  document.title = `${open ? `${number(seen.trade.r, 2, true)} R · ` : ""}${seen.venue || "bot"}`;
  const lines = seen.feeds_lost.map((name) => `The stream ${name} is not heard.`);
  if (!seen.entries.allowed) lines.push(`Entries are off. ${seen.entries.reason}`.trim());
  if (seen.ledger && seen.ledger.first) lines.push(`Repaint: ${seen.ledger.first}.`);
  trouble(lines);
}

// Six lights into the list `id`: lamp, name, numbers behind it, bars since it last held, and its last bars as a strip.
export function lights(id, state) {
  const list = byId(id);
  const rows = state.lights.map((light) => {
    const row = element("li", "", light.on ? "on" : "");
    row.dataset.name = light.name;
    row.append(element("span", light.title, "label"), element("span", light.number, "evidence"), element("span", since(light), "since"), strip(light.strip));
    row.setAttribute("aria-label", `${light.title}: ${light.on === null ? "not known" : light.on ? "yes" : "no"} ${light.number}`);
    return row;
  });
  list.replaceChildren(...rows);
}

function since(light) {
  if (light.on) return "now";
  if (light.since === null || light.since === undefined) return light.strip ? "never" : "";
  return `${light.since} ago`;
}

// The last bars, oldest left: full where the condition held.
function strip(bits) {
  const box = document.createElementNS(SVG, "svg");
  box.setAttribute("viewBox", "0 0 60 8");
  box.setAttribute("preserveAspectRatio", "none");
  box.setAttribute("class", "strip");
  box.setAttribute("aria-hidden", "true");
  let path = "";
  for (let i = 0; i < bits.length;) {
    let j = i;
    while (j < bits.length && bits[j] === bits[i]) j++;
    if (bits[i] === "1") path += `M${60 - bits.length + i} 0h${j - i}v8h-${j - i}z`;
    i = j;
  }
  const node = document.createElementNS(SVG, "path");
  node.setAttribute("d", path);
  box.append(node);
  return box;
}
