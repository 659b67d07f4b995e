// The chart of one symbol: candles with everything the indicators find on them, and the two oscillator panes beneath.
// Names, places and colours follow TradingView's chart with the same indicators, so that both can be read side by side.

import { number, utc } from "/format.js";
import { biasLayer, blockLabelsLayer, boxesLayer, dotsLayer, segmentsLayer, trailsLayer, washLayer } from "/layers.js";
import { gapsLayer, overlaysLayer } from "/overlays.js";
import { faded, palette } from "/palette.js";
import { signalsLayer, tradesLayer } from "/trades_layer.js";

export const LAYERS = {
  blocks: ["Order blocks", true], mitigated: ["Mitigated blocks", true], pac: ["Structure (PAC)", true], equal: ["EQH / EQL", true],
  int: ["Structure (SMC)", false], sw: ["Swing structure (SMC)", false], trail: ["Smart Trail", true], supertrend: ["SuperTrend AI", true],
  tracer: ["Trend Tracer", false], catcher: ["Trend Catcher", false], neo: ["Neo Cloud", false], gaps: ["Fair value gaps", false],
  confirmation: ["Confirmation", true], wash: ["Premium / discount", true], bias: ["15m bias", true], trades: ["Plans and trades", true],
};
const EMPTY = { time: [], open: [], high: [], low: [], close: [], volume: [], lines: {}, flags: {}, boxes: [], segments: [], plans: [] };
const ROLES = { en: "entry", io: "entry", sl: "stop", cs: "catastrophe stop", tp: "target", xx: "exit", hx: "hedge", hc: "hedge", gd: "guard", fx: "foreign" };
const VISIBLE_BARS = 160;

export class View {
  constructor(box, { dark = true, safe = false } = {}) {
    this.box = box;
    this.colours = palette(dark, safe);
    this.layers = Object.fromEntries(Object.entries(LAYERS).map(([name, [, on]]) => [name, on]));
    this.data = structuredClone(EMPTY);
    this.trades = [];
    this.lines = [];
    this.onBar = () => {};
    const chart = LightweightCharts.createChart(box, { autoSize: true, ...this.look() });
    this.chart = chart;
    this.candles = chart.addSeries(LightweightCharts.CandlestickSeries, this.candleLook(), 0);
    this.wave = this.line(1, {});
    this.waveSignal = this.line(1, {});
    this.flow = chart.addSeries(LightweightCharts.BaselineSeries, { baseValue: { type: "price", price: 50 } }, 2);
    this.overflow = chart.addSeries(LightweightCharts.BaselineSeries, { baseValue: { type: "price", price: 50 } }, 2);
    this.upper = this.line(2, {});
    this.lower = this.line(2, {});
    this.drawings = [
      washLayer(this), gapsLayer(this), boxesLayer(this), overlaysLayer(this), trailsLayer(this), segmentsLayer(this), blockLabelsLayer(this), tradesLayer(this), signalsLayer(this), biasLayer(this),
    ];
    for (const drawing of this.drawings) this.candles.attachPrimitive(drawing);
    this.dots = dotsLayer(this);
    this.wave.attachPrimitive(this.dots);
    for (const series of [this.flow, this.overflow, this.upper, this.lower]) series.applyOptions({ priceLineVisible: false });
    for (const series of [this.wave, this.waveSignal]) {
      series.applyOptions({ priceLineVisible: false, autoscaleInfoProvider: () => ({ priceRange: { minValue: 0, maxValue: 100 } }) });
    }
    for (const series of [this.wave, this.flow]) series.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.08 } });
    for (const level of [20, 50, 80]) this.wave.createPriceLine(this.guide(level));
    this.flow.createPriceLine(this.guide(50));
    chart.panes().forEach((pane, i) => pane.setStretchFactor([5, 1, 1.1][i]));
    chart.subscribeCrosshairMove((moved) => this.onBar(moved.logical === undefined || moved.logical === null ? null : Math.round(moved.logical)));
    this.recolour(dark, safe);
  }

  look() {
    const c = this.colours;
    return {
      layout: {
        background: { color: c.ground }, textColor: c.text, fontSize: 11, attributionLogo: false, // named beside the chart instead: its style would break the page's policy
        panes: { separatorColor: c.edge, separatorHoverColor: c.edge },
      },
      grid: { vertLines: { color: c.grid }, horzLines: { color: c.grid } },
      crosshair: { mode: 0, vertLine: { color: c.faint }, horzLine: { color: c.faint } },
      rightPriceScale: { borderColor: c.edge, minimumWidth: 64 },
      timeScale: { borderColor: c.edge, timeVisible: true, secondsVisible: false, rightOffset: 12, minBarSpacing: 0.1 },
      localization: { timeFormatter: (seconds) => `${utc(seconds * 1000)} UTC` },
    };
  }

  candleLook() {
    const c = this.colours;
    return { upColor: c.up, downColor: c.down, borderUpColor: c.up, borderDownColor: c.down, wickUpColor: c.up, wickDownColor: c.down };
  }

  line(pane, options) {
    return this.chart.addSeries(LightweightCharts.LineSeries, { lineWidth: 1, lastValueVisible: false, crosshairMarkerVisible: false, ...options }, pane);
  }

  guide(price) {
    return { price, color: this.colours.faint, lineWidth: 1, lineStyle: 1, axisLabelVisible: false };
  }

  recolour(dark, safe) {
    this.colours = palette(dark, safe);
    const c = this.colours;
    this.chart.applyOptions(this.look());
    this.candles.applyOptions(this.candleLook());
    this.wave.applyOptions({ color: c.wave, lineWidth: 2, lastValueVisible: true, title: "HyperWave" });
    this.waveSignal.applyOptions({ color: c.waveSignal });
    const flow = (alpha) => ({
      topLineColor: c.up, bottomLineColor: c.down, lineWidth: 1, topFillColor1: c.up + alpha, topFillColor2: `${c.up}10`,
      bottomFillColor1: `${c.down}10`, bottomFillColor2: c.down + alpha,
    });
    this.flow.applyOptions({ ...flow("40"), title: "Money Flow" });
    this.overflow.applyOptions({ ...flow("c0"), lastValueVisible: false, crosshairMarkerVisible: false });
    for (const threshold of [this.upper, this.lower]) threshold.applyOptions({ color: c.plain, lineStyle: 2 });
    this.refresh();
  }

  refresh() {
    for (const drawing of this.drawings) drawing.refresh();
    this.dots.refresh();
  }

  show(layer, on) {
    this.layers[layer] = on;
    this.refresh();
  }

  // Replace everything.
  set(payload) {
    const fresh = this.data.symbol !== payload.symbol;
    this.data = { ...payload, boxes: [], segments: [], plans: [] };
    this.read(payload);
    this.candles.applyOptions({ priceFormat: { type: "price", precision: payload.decimals, minMove: 10 ** -payload.decimals } });
    this.candles.setData(payload.time.map((time, i) => this.candle(i)));
    for (const [series, name] of this.oscillators()) series.setData(payload.time.map((time, i) => this.point(name, i)));
    if (fresh) this.latest();
    this.refresh();
  }

  // Add the bars that a page with the earlier ones lacks, and what has changed about the findings.
  add(payload) {
    const data = this.data;
    const start = data.time.length;
    if (payload.first !== data.first + start) return false;
    for (const name of ["time", "open", "high", "low", "close", "volume"]) data[name].push(...payload[name]);
    for (const group of ["lines", "flags"]) for (const name of Object.keys(data[group])) data[group][name].push(...payload[group][name]);
    this.read(payload);
    for (let i = start; i < data.time.length; i++) {
      this.candles.update(this.candle(i));
      for (const [series, name] of this.oscillators()) series.update(this.point(name, i));
    }
    this.refresh();
    return true;
  }

  // Findings arrive as rows and by bar number of the whole tape; here bars count from the first one shown.
  read(payload) {
    const first = this.data.first;
    const fresh = payload.boxes.map(([id, side, start, end, bottom, top, share, state]) => ({
      id, side, start: start - first, end: end < 0 ? -1 : end - first, bottom, top, share, state,
    }));
    const numbers = new Set(fresh.map((box) => box.id));
    this.data.boxes = [...this.data.boxes.filter((box) => !numbers.has(box.id)), ...fresh].sort((a, b) => a.id - b.id);
    const key = (part) => `${part.end} ${part.label} ${part.layer} ${part.price}`;
    const known = new Set(this.data.segments.map(key));
    const segments = payload.segments.map(([start, end, price, side, label, layer]) => ({ start: start - first, end: end - first, price, side, label, layer }));
    this.data.segments.push(...segments.filter((part) => !known.has(key(part))));
    this.data.plans.push(...payload.plans.map(([at, side, entry, stop, tp1, tp2]) => ({ at: at - first, side, entry, stop, tp1, tp2 })));
  }

  oscillators() {
    return [[this.wave, "hyperwave"], [this.waveSignal, "wave_signal"], [this.flow, "money_flow"], [this.overflow, "overflow"], [this.upper, "upper"], [this.lower, "lower"]];
  }

  candle(i) {
    const d = this.data;
    return { time: d.time[i], open: d.open[i], high: d.high[i], low: d.low[i], close: d.close[i] };
  }

  point(name, i) {
    const value = this.data.lines[name][i];
    return value === null ? { time: this.data.time[i] } : { time: this.data.time[i], value };
  }

  // The bar that contains a time; fractions are not needed, a fill belongs to its bar.
  barAt(ms) {
    return Math.floor((ms / 1000 - this.data.time[0]) / (this.data.interval_ms / 1000));
  }

  setTrades(rows) {
    this.trades = rows.filter((row) => row.symbol === this.data.symbol && row.opened_ms > 0).map((row) => ({
      side: row.side === "LONG" ? 1 : -1, signalAt: this.barAt(row.signal_ms - 1), from: this.barAt(row.opened_ms),
      to: row.closed_ms ? this.barAt(row.closed_ms) : this.data.time.length + 2,
      entry: row.entry_price, stop: row.stop, tp1: row.tp1, tp2: row.tp2, r: row.r_multiple,
      result: row.closed_ms ? `${number(row.r_multiple, 2, true)} R · ${row.exit_reason}` : "",
      fills: row.fills.filter(([, symbol]) => symbol === this.data.symbol)
        .map(([at, , role, side, price]) => ({ at: this.barAt(at), role: ROLES[role] ?? role, side: side === "BUY" ? 1 : -1, price })),
    }));
    this.refresh();
  }

  // Lines with labels on the axis for what is in force now: [[price, words, role]], role up, down or plain.
  setLevels(rows) {
    const key = JSON.stringify(rows);
    if (key === this.levelsKey) return;
    this.levelsKey = key;
    for (const line of this.lines) this.candles.removePriceLine(line);
    this.lines = rows.map(([price, title, role]) => this.candles.createPriceLine({
      price, title, color: this.colours[role] ?? this.colours.text, lineWidth: 1, lineStyle: role === "text" ? 0 : 2, axisLabelVisible: true,
    }));
  }

  // The bar that is not closed yet, paler than the others: [open ms, open, high, low, close]. Nothing is decided on it.
  setForming(bar) {
    const last = this.data.time.at(-1);
    if (!bar || last === undefined || bar[0] / 1000 !== last + this.data.interval_ms / 1000) return;
    const [open_ms, open, high, low, close] = bar;
    const colour = close < open ? this.colours.down : this.colours.up;
    this.forming = open_ms / 1000;
    this.candles.update({ time: this.forming, open, high, low, close, color: faded(colour, 0.3), borderColor: colour, wickColor: faded(colour, 0.6) });
  }

  latest() {
    const last = this.data.time.length;
    this.chart.timeScale().setVisibleLogicalRange({ from: last - VISIBLE_BARS, to: last + 12 });
  }

  centre(index) {
    const range = this.chart.timeScale().getVisibleLogicalRange();
    const half = range ? Math.min((range.to - range.from) / 2, 120) : VISIBLE_BARS / 2;
    this.chart.timeScale().setVisibleLogicalRange({ from: index - half, to: index + half });
  }

  pan(bars) {
    const range = this.chart.timeScale().getVisibleLogicalRange();
    if (range) this.chart.timeScale().setVisibleLogicalRange({ from: range.from + bars, to: range.to + bars });
  }

  zoom(factor) {
    const range = this.chart.timeScale().getVisibleLogicalRange();
    if (range) this.chart.timeScale().setVisibleLogicalRange({ from: range.to - (range.to - range.from) * factor, to: range.to });
  }

  // What the header says about one bar: [label, text] pairs.
  words(index) {
    const d = this.data;
    const i = index === null || index < 0 || index >= d.time.length ? d.time.length - 1 : index;
    if (i < 0) return [];
    const price = (value) => number(value, d.decimals);
    const side = (value) => (value > 0 ? "▲" : value < 0 ? "▼" : "–");
    const l = d.lines;
    return [
      [utc(d.time[i] * 1000), ""], ["O", price(d.open[i])], ["H", price(d.high[i])], ["L", price(d.low[i])], ["C", price(d.close[i])],
      ["Smart Trail", `${side(l.trail_dir[i])} ${price(l.trail[i])}`], ["SuperTrend AI", `${l.supertrend_dir[i] > 0 ? "▲" : "▼"} ${price(l.supertrend[i])}`],
      ["HyperWave", `${number(l.hyperwave[i], 1)} / ${number(l.wave_signal[i], 1)}`],
      ["Money Flow", `${number(l.money_flow[i], 1)} (${number(l.lower[i], 1)} to ${number(l.upper[i], 1)})`], ["15m", side(d.flags.bias[i])],
      ["long", `${bits(d.flags.long[i])}/6`], ["short", `${bits(d.flags.short[i])}/6`],
    ];
  }
}

export function bits(value) {
  let count = 0;
  for (let rest = value ?? 0; rest; rest >>= 1) count += rest & 1;
  return count;
}
