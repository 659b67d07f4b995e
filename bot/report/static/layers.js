// What is drawn on the price: order blocks, structure, 15m bias, premium and discount, trails, plans and trades.

import { Layer, dashes, tag } from "/layer.js";
import { faded } from "/palette.js";

export const SHOWN = 0;
export const MITIGATED = 2;
const COVERED = 3;

// A box is {side, start, end (-1: to the right edge), bottom, top, share, state}.
export function boxesLayer(view) {
  return new Layer((pen, frame) => {
    const colours = view.colours;
    const layers = view.layers;
    for (const box of view.data.boxes) {
      const gone = box.state === MITIGATED || box.state === COVERED;
      if (box.start > frame.to || (gone && box.end < frame.from)) continue;
      if (box.state === COVERED || (gone && !layers.mitigated) || (!gone && !layers.blocks)) continue;
      const x0 = frame.x(box.start);
      const x1 = gone ? frame.x(box.end) : frame.width;
      const y0 = frame.y(box.top);
      const y1 = frame.y(box.bottom);
      if (!(y1 > -1 && y0 < frame.height) || x1 <= 0) continue;
      const colour = box.side > 0 ? colours.up : colours.down;
      const strong = box.state === SHOWN;
      const height = Math.max(y1 - y0, 1);
      pen.fillStyle = faded(colour, strong ? 0.22 : gone ? 0.07 : 0.1);
      pen.fillRect(x0, y0, x1 - x0, height);
      if (strong) activity(pen, frame, box, x0, x1, y0, height, colours);
      pen.fillStyle = faded(colour, strong ? 0.9 : 0.25);
      pen.fillRect(x0, y0, x1 - x0, 1);
      pen.fillRect(x0, y1, x1 - x0, 1);
      if (gone) continue;
      dashes(pen, frame, 4, 4);
      pen.strokeStyle = faded(colour, 0.5);
      pen.lineWidth = 1;
      pen.beginPath();
      pen.moveTo(x0, Math.round(y0 + height / 2) + 0.5);
      pen.lineTo(x1, Math.round(y0 + height / 2) + 0.5);
      pen.stroke();
      pen.setLineDash([]);
    }
  }, "bottom");
}

// Buying and selling inside the block as two bars from its left edge, as long as their shares.
function activity(pen, frame, box, x0, x1, y0, height, colours) {
  if (box.share === null || height < 4) return;
  const length = Math.min(x1 - x0, 90 * frame.rx);
  const half = Math.round(height / 2);
  pen.fillStyle = faded(colours.up, 0.4);
  pen.fillRect(x0, y0, length * box.share, half);
  pen.fillStyle = faded(colours.down, 0.4);
  pen.fillRect(x0, y0 + half, length * (1 - box.share), height - half);
}

// The words of displayed blocks stand at the right edge; where two would lie on each other the newer one is written.
export function blockLabelsLayer(view) {
  return new Layer((pen, frame) => {
    if (!view.layers.blocks) return;
    const taken = [];
    for (const box of view.data.boxes.toReversed()) {
      if (box.state !== SHOWN || box.share === null) continue;
      const y = Math.round((frame.y(box.top) + frame.y(box.bottom)) / 2 + 9 * frame.ry);
      if (!(y > 0 && y < frame.height + 9 * frame.ry) || taken.some((other) => Math.abs(other - y) < 12 * frame.ry)) continue;
      taken.push(y);
      const text = `${box.side > 0 ? "▲" : "▼"} ${(100 * box.share).toFixed(0)} % buy`;
      const colour = box.side > 0 ? view.colours.up : view.colours.down;
      tag(pen, frame, text, frame.width - 6 * frame.rx, y, { colour, ground: view.colours.ground, anchor: 1 });
    }
  });
}

const DASHED = { int: [3, 3], sw: [], pac: [], equal: [2, 3] };

// A segment is {start, end, price, side, label, layer}.
export function segmentsLayer(view) {
  return new Layer((pen, frame) => {
    const taken = []; // where words stand: a word that would lie on another is left out, the newer one stays
    for (const part of view.data.segments.toReversed()) {
      if (part.end < frame.from || part.start > frame.to || !view.layers[part.layer]) continue;
      const y = frame.y(part.price);
      if (!(y > -20 && y < frame.height + 20)) continue;
      const colour = part.side > 0 ? view.colours.up : view.colours.down;
      const x0 = frame.x(part.start);
      const x1 = frame.x(part.end);
      dashes(pen, frame, ...DASHED[part.layer]);
      pen.strokeStyle = faded(colour, part.layer === "int" ? 0.6 : 0.95);
      pen.lineWidth = Math.max(1, Math.round(part.layer === "sw" ? 2 * frame.ry : frame.ry));
      pen.beginPath();
      pen.moveTo(x0, y + 0.5);
      pen.lineTo(x1, y + 0.5);
      pen.stroke();
      pen.setLineDash([]);
      // A word that is wider than some bars only where bars are wide enough to tell words apart.
      if (frame.step < 2 && part.layer !== "sw" && x1 - x0 < 24 * frame.rx) continue;
      const above = part.layer === "equal" ? part.side < 0 : part.side > 0;
      const middle = (x0 + x1) / 2;
      const line = y + (above ? -8 : 8) * frame.ry;
      const reach = (3.4 * part.label.length + 2) * frame.rx;
      if (taken.some(([x, at, wide]) => Math.abs(at - line) < 10 * frame.ry && Math.abs(x - middle) < wide + reach)) continue;
      taken.push([middle, line, reach]);
      tag(pen, frame, part.label, middle, y, { colour, size: part.layer === "int" ? 9 : 10, above });
    }
  });
}

// Smart Trail by side with its area, and SuperTrend AI; lines end where the side changes.
export function trailsLayer(view) {
  return new Layer((pen, frame) => {
    const { lines } = view.data;
    const { colours } = view;
    if (view.layers.trail) {
      for (const [side, colour] of [[1, colours.upLine], [-1, colours.downLine]]) {
        const found = runs(frame, lines.trail_dir, lines.trail, side);
        pen.beginPath();
        for (const run of found) area(pen, frame, run, lines.trail, lines.trail_extremity);
        pen.fillStyle = faded(colour, 0.1);
        pen.fill();
        stroke(pen, frame, found, lines.trail, colour, 1.6, []);
      }
    }
    if (view.layers.supertrend) {
      for (const [side, colour] of [[1, colours.up], [0, colours.down]]) {
        stroke(pen, frame, runs(frame, lines.supertrend_dir, lines.supertrend, side), lines.supertrend, colour, 1.3, [5, 3]);
      }
    }
  });
}

// Stretches of visible bars on one side that have a value, as lists of the bars worth a point.
export function runs(frame, sides, values, side) {
  const found = [];
  const last = Math.min(frame.to, values.length - 1);
  for (let i = Math.max(frame.from, 0); i <= last;) {
    if (sides[i] !== side || values[i] === null) { i++; continue; }
    const run = [];
    let j = i;
    for (; j <= last && sides[j] === side && values[j] !== null; j++) if ((j - i) % frame.stride === 0) run.push(j);
    if (run.at(-1) !== j - 1) run.push(j - 1);
    found.push(run);
    i = j;
  }
  return found;
}

function area(pen, frame, run, line, other) {
  pen.moveTo(frame.x(run[0]), frame.y(line[run[0]]));
  for (const i of run) pen.lineTo(frame.x(i), frame.y(line[i]));
  for (let k = run.length - 1; k >= 0; k--) if (other[run[k]] !== null) pen.lineTo(frame.x(run[k]), frame.y(other[run[k]]));
  pen.closePath();
}

export function stroke(pen, frame, found, values, colour, width, dash) {
  dashes(pen, frame, ...dash);
  pen.beginPath();
  for (const run of found) {
    pen.moveTo(frame.x(run[0]), frame.y(values[run[0]]));
    for (const i of run) pen.lineTo(frame.x(i), frame.y(values[i]));
  }
  pen.strokeStyle = colour;
  pen.lineWidth = width * frame.ry;
  pen.stroke();
  pen.setLineDash([]);
}

// Premium above the middle of the 15m range, discount below it, and that middle.
export function washLayer(view) {
  return new Layer((pen, frame) => {
    if (!view.layers.wash) return;
    const values = view.data.lines.equilibrium;
    const last = Math.min(frame.to, values.length - 1);
    for (let i = Math.max(frame.from, 0); i <= last;) {
      let j = i;
      while (j + 1 <= last && values[j + 1] === values[i]) j++;
      if (values[i] !== null) {
        const x0 = frame.x(i - 0.5);
        const x1 = j === values.length - 1 ? frame.width : frame.x(j + 0.5);
        const y = Math.min(Math.max(frame.y(values[i]), 0), frame.height);
        pen.fillStyle = faded(view.colours.down, 0.045);
        pen.fillRect(x0, 0, x1 - x0, y);
        pen.fillStyle = faded(view.colours.up, 0.045);
        pen.fillRect(x0, y, x1 - x0, frame.height - y);
        pen.fillStyle = faded(view.colours.plain, 0.55);
        pen.fillRect(x0, y, x1 - x0, 1);
      }
      i = j + 1;
    }
    const now = values.at(-1);
    if (now === null || now === undefined) return;
    const y = frame.y(now);
    const style = { colour: view.colours.faint, size: 9, anchor: 0 };
    if (y > 14 * frame.ry && y < frame.height) tag(pen, frame, "premium", Math.max(frame.x(0), 0) + 6 * frame.rx, y, style);
    if (y > 0 && y < frame.height - 30 * frame.ry) {
      tag(pen, frame, "discount", Math.max(frame.x(0), 0) + 6 * frame.rx, y, { ...style, above: false });
    }
  }, "bottom");
}

// The 15m structure as a strip along the lower edge: bullish, bearish, or no agreement.
export function biasLayer(view) {
  return new Layer((pen, frame) => {
    if (!view.layers.bias) return;
    const values = view.data.flags.bias;
    const height = Math.round(7 * frame.ry);
    const last = Math.min(frame.to, values.length - 1);
    for (let i = Math.max(frame.from, 0); i <= last;) {
      let j = i;
      while (j + 1 <= last && values[j + 1] === values[i]) j++;
      const x0 = frame.x(i - 0.5);
      const x1 = frame.x(j + 0.5);
      const side = values[i];
      pen.fillStyle = side > 0 ? view.colours.up : side < 0 ? view.colours.down : faded(view.colours.plain, 0.35);
      pen.fillRect(x0, frame.height - height, x1 - x0, height);
      if (x1 - x0 > 30 * frame.rx) {
        const word = side > 0 ? "15m ▲" : side < 0 ? "15m ▼" : "15m –";
        tag(pen, frame, word, Math.max(x0, 0) + 4 * frame.rx, frame.height - height, {
          colour: view.colours.faint, size: 9, anchor: 0,
        });
      }
      i = j + 1;
    }
  });
}

// Crosses of HyperWave and its signal: full dots up, rings down, big ones below 20 and above 80.
export function dotsLayer(view) {
  return new Layer((pen, frame) => {
    const { flags, lines } = view.data;
    const last = Math.min(frame.to, flags.cross.length - 1);
    for (const side of [1, -1]) {
      pen.beginPath();
      for (let i = Math.max(frame.from, 0); i <= last; i++) {
        const cross = flags.cross[i] * side;
        if (cross <= 0 || lines.hyperwave[i] === null || (cross < 2 && frame.step < 1.5)) continue;
        const radius = (cross > 1 ? 4.5 : 2.5) * frame.rx;
        const x = frame.x(i);
        pen.moveTo(x + radius, frame.y(lines.hyperwave[i]));
        pen.arc(x, frame.y(lines.hyperwave[i]), radius, 0, 7);
      }
      pen.fillStyle = side > 0 ? view.colours.up : view.colours.ground;
      pen.fill();
      if (side > 0) continue;
      pen.strokeStyle = view.colours.down;
      pen.lineWidth = 1.6 * frame.rx;
      pen.stroke();
    }
  }, "top");
}
