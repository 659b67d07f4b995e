// What is off until wanted: Trend Tracer and Trend Catcher by side, Neo Cloud, fair value gaps.

import { Layer } from "/layer.js";
import { runs, stroke } from "/layers.js";
import { faded } from "/palette.js";

export function overlaysLayer(view) {
  return new Layer((pen, frame) => {
    const { lines } = view.data;
    const { colours, layers } = view;
    for (const [name, width, dash] of [["tracer", 1.6, []], ["catcher", 1.6, [2, 2]]]) {
      if (!layers[name]) continue;
      for (const [side, colour] of [[1, colours.upLine], [-1, colours.downLine]]) {
        stroke(pen, frame, runs(frame, lines[`${name}_dir`], lines[name], side), lines[name], colour, width, dash);
      }
    }
    if (layers.neo) cloud(pen, frame, lines.neo_lead, lines.neo_lag, colours);
  });
}

// Filled between both lines, in the colour of the one on top, bar by bar.
function cloud(pen, frame, lead, lag, colours) {
  const last = Math.min(frame.to, lead.length - 1);
  const step = frame.stride;
  for (const side of [1, -1]) {
    pen.beginPath();
    for (let i = Math.max(frame.from, 0); i < last; i += step) {
      const j = Math.min(i + step, last);
      if (lead[i] === null || lag[i] === null || lead[j] === null || lag[j] === null || (lead[j] >= lag[j] ? 1 : -1) !== side) continue;
      pen.moveTo(frame.x(i), frame.y(lead[i]));
      pen.lineTo(frame.x(j), frame.y(lead[j]));
      pen.lineTo(frame.x(j), frame.y(lag[j]));
      pen.lineTo(frame.x(i), frame.y(lag[i]));
      pen.closePath();
    }
    pen.fillStyle = faded(side > 0 ? colours.up : colours.down, 0.25);
    pen.fill();
  }
}

// A gap lies between the high of two bars ago and this low, or the other way round, until it is mitigated.
export function gapsLayer(view) {
  let found = [];
  let known = "";
  return new Layer((pen, frame) => {
    if (!view.layers.gaps) return;
    const { data, colours } = view;
    const key = `${data.symbol} ${data.time[0]} ${data.time.length}`;
    if (key !== known) [found, known] = [gapsOf(data), key];
    for (const gap of found) {
      if (gap.start > frame.to || (gap.end >= 0 && gap.end < frame.from)) continue;
      const x0 = frame.x(gap.start);
      const x1 = gap.end < 0 ? frame.width : frame.x(gap.end);
      const y0 = frame.y(gap.top);
      const y1 = frame.y(gap.bottom);
      if (!(y1 > -1 && y0 < frame.height) || x1 <= 0) continue;
      pen.fillStyle = faded(gap.side > 0 ? colours.up : colours.down, gap.end < 0 ? 0.16 : 0.08);
      pen.fillRect(x0, y0, x1 - x0, Math.max(y1 - y0, 1));
    }
  }, "bottom");
}

function gapsOf(data) {
  const all = [];
  const open = { 1: [], "-1": [] };
  for (let i = 0; i < data.time.length; i++) {
    for (const side of [1, -1]) {
      const probe = data.gap_end === "close" ? data.close[i] : side > 0 ? data.low[i] : data.high[i];
      const beyond = (gap) => side * (probe - (data.gap_end === "average" ? (gap.bottom + gap.top) / 2 : side > 0 ? gap.bottom : gap.top)) < 0;
      if (data.gap_end !== "none" && open[side].some(beyond)) {
        for (const gap of open[side]) if (beyond(gap)) gap.end = i;
        open[side] = open[side].filter((gap) => gap.end < 0);
      }
      if (data.flags.gap[i] !== side || i < 2) continue;
      const gap = side > 0
        ? { side, start: i - 1, end: -1, bottom: data.high[i - 2], top: data.low[i] } : { side, start: i - 1, end: -1, bottom: data.high[i], top: data.low[i - 2] };
      all.push(gap);
      open[side].push(gap);
    }
  }
  return all;
}
