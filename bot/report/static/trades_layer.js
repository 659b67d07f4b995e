// Signals with their plan, trades with their fills, and what Signals & Overlays says, at their bars.

import { Layer, dashes, tag } from "/layer.js";
import { faded } from "/palette.js";

const PLAN_BARS = 10; // a plan lives 30 minutes at most

// Plans are {at, side, entry, stop, tp1, tp2}; trades as `trade_marks` gives them, with `from` and `to` as bars.
export function tradesLayer(view) {
  return new Layer((pen, frame) => {
    if (!view.layers.trades) return;
    const traded = new Set(view.trades.map((trade) => trade.signalAt));
    for (const plan of view.data.plans) {
      if (plan.at > frame.to || plan.at + PLAN_BARS < frame.from || traded.has(plan.at)) continue;
      levels(pen, frame, view, { ...plan, from: plan.at, to: plan.at + PLAN_BARS, faint: true });
    }
    for (const trade of view.trades) {
      if (trade.from > frame.to || trade.to < frame.from || trade.stop === null) continue;
      levels(pen, frame, view, trade);
      for (const fill of trade.fills) arrow(pen, frame, view, fill);
      if (trade.result) {
        const y = frame.y(trade.side > 0 ? trade.tp2 : trade.stop);
        const colour = trade.r < 0 ? view.colours.down : view.colours.up;
        tag(pen, frame, trade.result, frame.x(trade.to), y, { colour, ground: view.colours.ground, size: 11 });
      }
    }
  });
}

function levels(pen, frame, view, trade) {
  const { colours } = view;
  const x0 = frame.x(trade.from);
  const x1 = Math.max(frame.x(trade.to), x0 + 2 * frame.rx);
  const [entry, stop, tp1, tp2] = [trade.entry, trade.stop, trade.tp1, trade.tp2].map((price) => frame.y(price));
  pen.fillStyle = faded(colours.down, trade.faint ? 0.1 : 0.18);
  pen.fillRect(x0, Math.min(entry, stop), x1 - x0, Math.abs(entry - stop));
  pen.fillStyle = faded(colours.up, trade.faint ? 0.1 : 0.18);
  pen.fillRect(x0, Math.min(entry, tp2), x1 - x0, Math.abs(entry - tp2));
  const wide = x1 - x0 > 36 * frame.rx;
  const rows = [[entry, "entry", colours.text, []], [stop, "stop −1 R", colours.down, []], [tp1, "TP1", colours.up, [4, 3]], [tp2, "TP2", colours.up, []]];
  for (const [y, name, colour, dash] of rows) {
    if (!(y > -20 && y < frame.height + 20)) continue;
    dashes(pen, frame, ...dash);
    pen.strokeStyle = faded(colour, trade.faint ? 0.6 : 1);
    pen.lineWidth = Math.max(1, Math.round(frame.ry));
    pen.beginPath();
    pen.moveTo(x0, y + 0.5);
    pen.lineTo(x1, y + 0.5);
    pen.stroke();
    pen.setLineDash([]);
    if (wide) tag(pen, frame, name, x0 + 3 * frame.rx, y, { colour, ground: colours.ground, size: 9, anchor: 0 });
  }
}

function arrow(pen, frame, view, fill) {
  if (fill.at > frame.to || fill.at < frame.from) return;
  const x = frame.x(fill.at);
  const y = frame.y(fill.price);
  const size = 5 * frame.rx;
  const down = fill.side > 0 ? 1 : -1; // a buy points up from below, a sell down from above
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(x - size, y + down * 1.6 * size);
  pen.lineTo(x + size, y + down * 1.6 * size);
  pen.closePath();
  pen.fillStyle = fill.side > 0 ? view.colours.upLine : view.colours.downLine;
  pen.fill();
  pen.strokeStyle = view.colours.ground;
  pen.lineWidth = frame.rx;
  pen.stroke();
  if (frame.step > 5) {
    tag(pen, frame, fill.role, x, y + down * 1.6 * size, { colour: view.colours.text, ground: view.colours.ground, size: 9, above: down < 0 });
  }
}

// Confirmation signals as TradingView's labels show them: ▲ below the bar, ▲+ for a strong one, ▼ above; and the strategy's own.
export function signalsLayer(view) {
  return new Layer((pen, frame) => {
    const { flags, low, high } = view.data;
    const { colours } = view;
    const first = Math.max(frame.from, 0);
    const last = Math.min(frame.to, low.length - 1);
    if (view.layers.confirmation && frame.step >= 0.8) {
      for (const side of [1, -1]) {
        pen.beginPath();
        for (let i = first; i <= last; i++) if (flags.confirmation[i] * side > 0) triangle(pen, frame, i, side > 0 ? low[i] : high[i], side);
        pen.fillStyle = side > 0 ? colours.up : colours.down;
        pen.fill();
      }
    }
    for (let i = first; i <= last; i++) {
      const own = flags.signal[i];
      const kind = flags.confirmation[i];
      if (own && view.layers.trades) {
        const y = own > 0 ? frame.y(low[i]) + 16 * frame.ry : frame.y(high[i]) - 16 * frame.ry;
        const style = { colour: own > 0 ? colours.upLine : colours.downLine, ground: colours.ground, size: 11, above: own < 0 };
        tag(pen, frame, own > 0 ? "LONG" : "SHORT", frame.x(i), y, style);
      }
      if (!kind || !view.layers.confirmation || frame.step < 3) continue;
      const words = `${Math.abs(kind) > 1 ? "+" : ""}${frame.step > 8 && flags.rating[i] ? flags.rating[i] : ""}`;
      if (!words) continue;
      const y = kind > 0 ? frame.y(low[i]) + 9 * frame.ry : frame.y(high[i]) - 9 * frame.ry;
      tag(pen, frame, words, frame.x(i), y, { colour: kind > 0 ? colours.up : colours.down, size: 10, above: kind < 0 });
    }
  });
}

function triangle(pen, frame, index, price, side) {
  const x = frame.x(index);
  const y = frame.y(price) + side * 4 * frame.ry;
  const size = 4.5 * frame.rx;
  pen.moveTo(x, y);
  pen.lineTo(x - size, y + side * 1.7 * size);
  pen.lineTo(x + size, y + side * 1.7 * size);
  pen.closePath();
}
