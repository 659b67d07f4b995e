// One drawing on the chart's own canvas. Thousands of boxes or labels are one layer each: what is off-screen is skipped, and
// positions along time are one multiplication, because bars stand at equal distances.

import { faded } from "/palette.js";

export class Layer {
  // `paint(pen, frame)` draws; `zOrder` is bottom (beneath the candles), normal or top.
  constructor(paint, zOrder = "normal") {
    this.paint = paint;
    this.shown = true;
    const renderer = { draw: (target) => target.useBitmapCoordinateSpace((scope) => this.draw(scope)) };
    this.views = [{ zOrder: () => zOrder, renderer: () => renderer }];
  }

  attached({ chart, series, requestUpdate }) {
    this.chart = chart;
    this.series = series;
    this.requestUpdate = requestUpdate;
  }

  detached() {
    this.chart = this.series = this.requestUpdate = undefined;
  }

  updateAllViews() {}

  paneViews() {
    return this.views;
  }

  refresh() {
    if (this.requestUpdate) this.requestUpdate();
  }

  frame(scope) {
    const scale = this.chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    const zero = scale.logicalToCoordinate(0);
    const one = scale.logicalToCoordinate(1);
    if (!range || zero === null || one === null) return null;
    const { horizontalPixelRatio: rx, verticalPixelRatio: ry, bitmapSize } = scope;
    const step = one - zero;
    const { base, top, slope } = this.prices();
    return {
      rx, ry, step, width: bitmapSize.width, height: bitmapSize.height,
      from: Math.floor(range.from) - 1, to: Math.ceil(range.to) + 1,
      stride: Math.max(1, Math.floor(0.8 / step)), // bars that share a pixel column need one point of a line
      x: (index) => Math.round((zero + index * step) * rx),
      y: (price) => Math.round((top + (price - base) * slope) * ry),
    };
  }

  // The price axis is linear: two of its points tell all others, and asking for thousands would be slow.
  prices() {
    const base = this.series.coordinateToPrice(0);
    const top = base === null ? null : this.series.priceToCoordinate(base);
    const other = base === null ? null : this.series.priceToCoordinate(base - 1);
    return top === null || other === null ? { base: 0, top: NaN, slope: NaN } : { base, top, slope: top - other };
  }

  draw(scope) {
    if (!this.shown || !this.chart) return;
    const frame = this.frame(scope);
    if (!frame) return;
    const pen = scope.context;
    pen.save();
    this.paint(pen, frame);
    pen.restore();
  }
}

const widths = new Map();

function widthOf(pen, font, text) {
  const key = `${font}|${text}`;
  let found = widths.get(key);
  if (found === undefined) {
    if (widths.size > 5000) widths.clear();
    found = pen.measureText(text).width;
    widths.set(key, found);
  }
  return found;
}

// Text, with its own ground where it may lie on candles. `anchor` 0: begins at x, 0.5: centred, 1: ends at x.
export function tag(pen, frame, text, x, y, { colour, ground, size = 10, anchor = 0.5, above = true }) {
  const font = `${Math.round(size * frame.ry)}px system-ui, sans-serif`;
  if (frame.font !== font) {
    frame.font = font;
    pen.font = font;
  }
  const width = widthOf(pen, font, text);
  const left = x - width * anchor;
  if (left > frame.width || left + width < 0) return;
  const top = above ? y - 4 * frame.ry : y + 4 * frame.ry;
  pen.textBaseline = above ? "bottom" : "top";
  pen.textAlign = "left";
  if (ground) {
    const height = Math.round(size * 1.15 * frame.ry);
    pen.fillStyle = faded(ground, 0.7);
    pen.fillRect(left - 2, above ? top - height : top, width + 4, height);
  }
  pen.fillStyle = colour;
  pen.fillText(text, left, top);
}

export function dashes(pen, frame, ...lengths) {
  pen.setLineDash(lengths.map((length) => length * frame.rx));
}
