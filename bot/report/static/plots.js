// Draws the figures of a report from the JSON beside them: bars, histograms, lines with bands, dots. Real pixels, so that
// the text stays readable on a phone; drawn again when the width changes. Nothing is loaded from anywhere.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
document.body.append(tip);

function node(name, attributes = {}, text = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

function hint(target, text) {
  target.addEventListener("pointermove", (event) => {
    tip.textContent = text;
    tip.hidden = false;
    const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const above = event.clientY - tip.offsetHeight - 12;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${above < 4 ? event.clientY + 16 : above}px`;
  });
  target.addEventListener("pointerleave", () => { tip.hidden = true; });
}

function format(value, digits = null) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "-";
  const size = Math.abs(value);
  const places = digits ?? (size >= 100 ? 0 : size >= 10 ? 1 : 2);
  return value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
}

const pen = document.createElement("canvas").getContext("2d");
pen.font = "11.5px system-ui, sans-serif";
function widthOf(words) { return pen.measureText(words).width; }

function day(ms) { return new Date(ms).toISOString().slice(0, 10); }

function steps(low, high, wanted) {
  const rough = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough || 1));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough) ?? power;
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(Math.abs(at) < step * 1e-9 ? 0 : at);
  return found;
}

function digitsOf(ticks) {
  const step = ticks.length > 1 ? Math.abs(ticks[1] - ticks[0]) : Math.abs(ticks[0] || 1);
  return step >= 1 && Number.isInteger(step) ? 0 : step >= 0.1 ? (Number.isInteger(step * 10) ? 1 : 2) : step >= 0.01 ? 2 : 3;
}

function timeSteps(low, high, width) {
  const found = [];
  const count = Math.max(1, Math.floor(width / 130));
  for (let i = 0; i <= count; i++) found.push(low + ((high - low) * i) / count);
  return found;
}

function range(values, zero) {
  let low = Math.min(...values), high = Math.max(...values);
  if (zero) { low = Math.min(low, 0); high = Math.max(high, 0); }
  if (!Number.isFinite(low)) { low = 0; high = 1; }
  if (low === high) { low -= 1; high += 1; }
  const pad = (high - low) * 0.06;
  return [zero && low === 0 ? 0 : low - pad, zero && high === 0 ? 0 : high + pad];
}

function frame(box, spec, ys, xs = null) {
  const width = Math.max(240, box.clientWidth), height = spec.height ?? 230;
  const ticks = steps(ys[0], ys[1], height / 46);
  const digits = spec.digits ?? digitsOf(ticks);
  const longest = Math.max(...ticks.map((t) => (format(t, digits) + (spec.unit ?? "")).length));
  const area = { left: 10 + 7 * longest, right: width - 8, top: 8, bottom: height - (spec.xlabel ? 40 : 24) };
  const svg = node("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spec.title ?? "" });
  const y = (v) => area.bottom - ((v - ys[0]) / (ys[1] - ys[0])) * (area.bottom - area.top);
  for (const tick of ticks) {
    svg.append(node("line", { class: tick === 0 ? "zero" : "grid", x1: area.left, x2: area.right, y1: y(tick), y2: y(tick) }));
    svg.append(node("text", { x: area.left - 6, y: y(tick) + 4, "text-anchor": "end" }, format(tick, digits) + (spec.unit ?? "")));
  }
  for (const mark of spec.marks ?? []) {
    svg.append(node("line", { class: "mark", x1: area.left, x2: area.right, y1: y(mark.at), y2: y(mark.at) }));
    svg.append(node("text", { x: area.right - 2, y: y(mark.at) - 4, "text-anchor": "end" }, mark.text));
  }
  let x = null;
  if (xs) {
    x = (v) => area.left + ((v - xs[0]) / (xs[1] - xs[0])) * (area.right - area.left);
    const at = spec.time ? timeSteps(xs[0], xs[1], area.right - area.left) : steps(xs[0], xs[1], (area.right - area.left) / 70);
    const places = digitsOf(at);
    at.forEach((tick, i) => {
      const anchor = spec.time && i === 0 ? "start" : spec.time && i === at.length - 1 ? "end" : "middle";
      svg.append(node("text", { x: x(tick), y: area.bottom + 16, "text-anchor": anchor }, spec.time ? day(tick) : format(tick, places)));
    });
    for (const mark of spec.xmarks ?? []) {
      svg.append(node("line", { class: "mark", x1: x(mark.at), x2: x(mark.at), y1: area.top, y2: area.bottom }));
      svg.append(node("text", { x: x(mark.at) + 4, y: area.top + 10 }, mark.text));
    }
  }
  if (spec.xlabel) svg.append(node("text", { x: (area.left + area.right) / 2, y: height - 6, "text-anchor": "middle" }, spec.xlabel));
  return { svg, area, x, y, width, height };
}

const shapes = {
  // One or more groups of bars over named places; colour by sign where there is only one group.
  bars(box, spec) {
    const lows = (spec.low ?? []).flat(), highs = (spec.high ?? []).flat();
    const all = [...spec.series.flatMap((s) => s.values), ...lows, ...highs, ...(spec.marks ?? []).map((m) => m.at)].filter((v) => v !== null);
    const f = frame(box, spec, range(all, true));
    const slot = (f.area.right - f.area.left) / Math.max(1, spec.names.length);
    const wide = Math.min(44, (slot * 0.78) / spec.series.length);
    const every = Math.ceil(Math.max(...spec.names.map((n) => n.length)) * 7 / slot);
    spec.names.forEach((name, i) => {
      const middle = f.area.left + slot * (i + 0.5);
      spec.series.forEach((series, j) => {
        const value = series.values[i];
        if (value === null) return;
        const left = middle + (j - spec.series.length / 2) * wide;
        const colour = spec.colours ? `var(--${spec.colours[i]})` : spec.series.length > 1 || series.colour ? `var(--${series.colour ?? `c${j + 1}`})` : `var(--${value < 0 ? "bad" : "good"})`;
        const top = Math.min(f.y(value), f.y(0));
        f.svg.append(node("rect", { x: left + 0.5, y: top, width: Math.max(1, wide - 1), height: Math.max(1, Math.abs(f.y(value) - f.y(0))), fill: colour, rx: Math.min(2, wide / 4) }));
        if (spec.low && spec.low[i] !== null) {
          f.svg.append(node("line", { x1: middle, x2: middle, y1: f.y(spec.low[i]), y2: f.y(spec.high[i]), stroke: "var(--quiet)", "stroke-width": 1.5 }));
        }
      });
      const words = spec.hints?.[i] ?? `${name}\n${spec.series.map((s) => `${s.name ? `${s.name}: ` : ""}${format(s.values[i], spec.places ?? null)}${spec.unit ?? ""}`).join("\n")}`;
      const zone = node("rect", { x: middle - slot / 2, y: f.area.top, width: slot, height: f.area.bottom - f.area.top, fill: "transparent" });
      hint(zone, words);
      f.svg.append(zone);
      if (i % every === 0) f.svg.append(node("text", { x: middle, y: f.area.bottom + 16, "text-anchor": "middle" }, name));
    });
    return f.svg;
  },

  // Long names, one bar each, lying.
  rows(box, spec) {
    const width = Math.max(240, box.clientWidth), line = 24;
    const left = Math.min(width * 0.5, 14 + Math.max(...spec.names.map(widthOf)));
    const right = width - 66;
    const [low, high] = range(spec.values.filter((v) => v !== null), true);
    const x = (v) => left + ((v - low) / (high - low)) * (right - left);
    const height = spec.names.length * line + 8;
    const svg = node("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spec.title ?? "" });
    svg.append(node("line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: height }));
    spec.names.forEach((name, i) => {
      const value = spec.values[i], top = i * line + 5;
      svg.append(node("text", { x: left - 8, y: top + 13, "text-anchor": "end" }, name));
      if (value === null) return;
      const colour = spec.colour ? `var(--${spec.colour})` : `var(--${value < 0 ? "bad" : "good"})`;
      const bar = node("rect", { x: Math.min(x(0), x(value)), y: top, width: Math.max(1, Math.abs(x(value) - x(0))), height: line - 8, fill: colour, rx: 2 });
      svg.append(bar);
      const text = spec.texts?.[i] ?? format(value, spec.places ?? null) + (spec.unit ?? "");
      svg.append(node("text", { x: value < 0 ? x(0) + 6 : x(value) + 6, y: top + 13 }, text));
      const zone = node("rect", { x: 0, y: top - 4, width, height: line, fill: "transparent" });
      hint(zone, spec.hints?.[i] ?? `${name}\n${text}`);
      svg.append(zone);
    });
    return svg;
  },

  // Lines over numbers or time, with bands between two lines.
  lines(box, spec) {
    const bands = spec.bands ?? [];
    const xs = [...spec.series, ...bands].flatMap((s) => s.x);
    const values = [...spec.series.flatMap((s) => s.y), ...bands.flatMap((b) => [...b.low, ...b.high]), ...(spec.marks ?? []).map((m) => m.at)];
    const f = frame(box, spec, range(values.filter((v) => v !== null), spec.zero ?? false), [Math.min(...xs), Math.max(...xs)]);
    for (const band of bands) {
      const up = band.x.map((v, i) => `${f.x(v)},${f.y(band.high[i])}`), down = band.x.map((v, i) => `${f.x(v)},${f.y(band.low[i])}`).reverse();
      f.svg.append(node("polygon", { points: [...up, ...down].join(" "), fill: `var(--${band.colour ?? "c1"})`, "fill-opacity": band.opacity ?? 0.16 }));
    }
    spec.series.forEach((series, j) => {
      const points = series.x.map((v, i) => (series.y[i] === null ? null : `${f.x(v)},${f.y(series.y[i])}`)).filter(Boolean);
      f.svg.append(node("polyline", { points: points.join(" "), fill: "none", stroke: `var(--${series.colour ?? `c${j + 1}`})`, "stroke-width": series.width ?? 2, "stroke-linejoin": "round", ...(series.dash ? { "stroke-dasharray": series.dash } : {}) }));
    });
    const first = spec.series[0];
    const zone = node("rect", { x: f.area.left, y: f.area.top, width: f.area.right - f.area.left, height: f.area.bottom - f.area.top, fill: "transparent" });
    const cursor = node("line", { class: "zero", y1: f.area.top, y2: f.area.bottom, visibility: "hidden" });
    f.svg.append(cursor, zone);
    zone.addEventListener("pointermove", (event) => {
      const at = event.clientX - f.svg.getBoundingClientRect().left;
      let best = 0;
      first.x.forEach((v, i) => { if (Math.abs(f.x(v) - at) < Math.abs(f.x(first.x[best]) - at)) best = i; });
      cursor.setAttribute("x1", f.x(first.x[best]));
      cursor.setAttribute("x2", f.x(first.x[best]));
      cursor.setAttribute("visibility", "visible");
      const head = spec.time ? day(first.x[best]) : `${spec.xlabel ?? ""} ${format(first.x[best], 0)}`.trim();
      tip.textContent = [head, ...spec.series.filter((s) => s.x.length === first.x.length).map((s) => `${s.name}: ${format(s.y[best], spec.places ?? null)}${spec.unit ?? ""}`),
        ...bands.filter((b) => b.name && b.x.length === first.x.length).map((b) => `${b.name}: ${format(b.low[best], spec.places ?? null)} to ${format(b.high[best], spec.places ?? null)}`)].join("\n");
      tip.hidden = false;
      tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8))}px`;
      tip.style.top = `${event.clientY + 16}px`;
    });
    zone.addEventListener("pointerleave", () => { tip.hidden = true; cursor.setAttribute("visibility", "hidden"); });
    return f.svg;
  },

  // Dots in two directions; `kind` chooses the colour.
  dots(box, spec) {
    const points = spec.points;
    const f = frame(box, spec, range(points.map((p) => p.y), true), range(points.map((p) => p.x), true));
    if (f.x(0) >= f.area.left) f.svg.append(node("line", { class: "zero", x1: f.x(0), x2: f.x(0), y1: f.area.top, y2: f.area.bottom }));
    for (const point of points) {
      const dot = node("circle", { cx: f.x(point.x), cy: f.y(point.y), r: 4, fill: `var(--${point.colour ?? "c1"})`, "fill-opacity": 0.7 });
      hint(dot, point.hint ?? `${format(point.x)}, ${format(point.y)}`);
      f.svg.append(dot);
    }
    return f.svg;
  },
};

function legend(box, items) {
  const list = document.createElement("p");
  list.className = "legend";
  for (const item of items) {
    const entry = document.createElement("span"), swatch = document.createElement("i");
    swatch.style.background = `var(--${item.colour})`;
    entry.append(swatch, item.text);
    list.append(entry);
  }
  box.after(list);
}

function drawAll() {
  for (const box of document.querySelectorAll(".plot")) {
    const spec = JSON.parse(document.getElementById(box.dataset.from).textContent);
    box.replaceChildren(shapes[spec.kind](box, spec));
    if (spec.legend && !box.dataset.done) legend(box, spec.legend);
    box.dataset.done = "1";
  }
}

let waiting = 0;
let widthDrawn = 0;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => { if (innerWidth !== widthDrawn) { widthDrawn = innerWidth; drawAll(); } }, 120);
});
widthDrawn = innerWidth;
drawAll();
