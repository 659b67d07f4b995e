// Two charts of the same time under each other: the exported one above, ours below. Cursor, place and zoom are linked.

import { byId, element, number, utc } from "/format.js";
import { palette } from "/palette.js";

const told = JSON.parse(byId("compare-data").textContent);
const LINES = ["#5b9cf6", "#f0b64d", "#cc79a7", "#56b4e9", "#e69f00", "#009e73", "#d55e00", "#8b93a5"];
const VISIBLE = 160;
const NAMED = 11; // pixels a bar from which marks that agree have words,
const APART = 4; // and those that differ

class Side {
  constructor(box, which, colours) {
    this.which = which;
    this.chart = LightweightCharts.createChart(box, {
      autoSize: true,
      layout: { background: { color: colours.ground }, textColor: colours.text, fontSize: 11, attributionLogo: false, panes: { separatorColor: colours.edge } },
      grid: { vertLines: { color: colours.grid }, horzLines: { color: colours.grid } },
      crosshair: { mode: 0 },
      rightPriceScale: { borderColor: colours.edge, minimumWidth: 72 },
      timeScale: { borderColor: colours.edge, timeVisible: true, secondsVisible: false, minBarSpacing: 0.1, rightOffset: 4 },
      localization: { timeFormatter: (seconds) => `${utc(seconds * 1000)} UTC` },
    });
    this.candles = this.chart.addSeries(LightweightCharts.CandlestickSeries, {
      upColor: colours.up, downColor: colours.down, borderUpColor: colours.up, borderDownColor: colours.down, wickUpColor: colours.up,
      wickDownColor: colours.down, priceLineVisible: false, priceFormat: { type: "price", precision: told.decimals, minMove: 10 ** -told.decimals },
    }, 0);
    const bars = told[which];
    this.candles.setData(told.time.map((time, i) => (bars.close[i] === null ? { time } : { time, open: bars.open[i], high: bars.high[i], low: bars.low[i], close: bars.close[i] })));
    this.lines = told.series.map((series, n) => this.draw(series, n, colours));
    this.found = this.marks(colours);
    this.markCount = this.found.length;
    this.words = null;
    if (this.markCount) {
      this.markers = LightweightCharts.createSeriesMarkers(this.candles, []);
      this.chart.timeScale().subscribeVisibleLogicalRangeChange(() => this.name());
      this.name();
    }
    this.chart.panes().forEach((pane, i) => pane.setStretchFactor(i ? 1 : 3.5));
  }

  draw(series, n, colours) {
    if (series.kind === "event") return null;
    const line = this.chart.addSeries(LightweightCharts.LineSeries, {
      color: LINES[n % LINES.length], lineWidth: 1, lineType: series.kind === "state" ? 1 : 0, lastValueVisible: false,
      priceLineVisible: false, crosshairMarkerVisible: false,
    }, series.pane);
    line.setData(told.time.map((time, i) => (series[this.which][i] === null ? { time } : { time, value: series[this.which][i] })));
    return line;
  }

  // Events stand on the candles: above for what points down, below for what points up.
  marks(colours) {
    const found = [];
    for (const series of told.series) {
      if (series.kind !== "event") continue;
      for (const at of series[this.which]) {
        const other = series[this.which === "theirs" ? "ours" : "theirs"].includes(at);
        found.push({
          time: told.time[at], position: series.up ? "belowBar" : "aboveBar", shape: series.up ? "arrowUp" : "arrowDown",
          color: other ? colours.plain : colours.waveSignal, size: other ? 0.7 : 1, text: other ? series.short : `${series.short} !`, agreed: other,
        });
      }
    }
    return found.sort((a, b) => a.time - b.time);
  }

  // From afar only marks that differ have words, else words would lie on each other.
  name() {
    const space = this.chart.timeScale().options().barSpacing;
    const words = Number(space >= APART) + Number(space >= NAMED);
    if (words === this.words) return;
    this.words = words;
    this.markers.setMarkers(this.found.map((mark) => (words < (mark.agreed ? 2 : 1) ? { ...mark, text: "" } : mark)));
  }
}

const dark = matchMedia("(prefers-color-scheme: dark)").matches;
const safe = location.hash === "#safe";
const colours = palette(dark, safe);
const sides = ["theirs", "ours"].map((which) => new Side(byId(which), which, colours));
const [theirs, ours] = sides;
const place = new Map(told.time.map((time, i) => [time, i]));
let busy = false;

// What stands under the cursor: the chart's value / ours, each name in the colour of its line.
function words(index) {
  const i = index === null || index === undefined ? told.time.length - 1 : index;
  const close = (which) => number(told[which].close[i], told.decimals);
  const parts = [element("b", utc(told.time[i] * 1000)), element("span", `close ${close("theirs")} / ${close("ours")}`)];
  let equal = 0;
  told.series.forEach((series, n) => {
    if (series.kind === "event" && !series.theirs.includes(i) && !series.ours.includes(i)) return;
    const read = (which) => (series.kind === "event" ? (series[which].includes(i) ? "yes" : "no") : number(series[which][i], series.decimals));
    if (innerWidth < 600 && read("theirs") === read("ours")) { // a small screen has room for what differs
      equal++;
      return;
    }
    const part = element("span");
    const name = element("i", `${series.label} `);
    if (series.kind !== "event") name.style.color = LINES[n % LINES.length];
    part.append(name, element("b", `${read("theirs")} / ${read("ours")}`, read("theirs") === read("ours") ? "" : "apart"));
    parts.push(part);
  });
  if (equal) parts.push(element("span", `${equal} more the same`));
  byId("cursor").replaceChildren(...parts);
}

function link(from, to) {
  from.chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
    if (busy || !range) return;
    busy = true;
    to.chart.timeScale().setVisibleLogicalRange(range);
    busy = false;
  });
  from.chart.subscribeCrosshairMove((moved) => {
    if (busy) return;
    busy = true;
    const index = moved.time === undefined ? null : place.get(moved.time);
    if (index === null || index === undefined) to.chart.clearCrosshairPosition();
    else to.chart.setCrosshairPosition(told[to.which].close[index] ?? 0, told.time[index], to.candles);
    words(index);
    busy = false;
  });
}

function show(index) {
  theirs.chart.timeScale().setVisibleLogicalRange({ from: index - VISIBLE / 2, to: index + VISIBLE / 2 });
}

link(theirs, ours);
link(ours, theirs);
show(told.time.length - VISIBLE / 2);
words(null);
for (const button of document.querySelectorAll("button[data-at]")) {
  button.addEventListener("click", () => {
    const index = place.get(Number(button.dataset.at));
    if (index !== undefined) show(index);
    byId("theirs").scrollIntoView({ block: "nearest" });
  });
}
byId("colours").title = "Blue and orange instead of green and red";
byId("colours").addEventListener("click", () => {
  location.hash = safe ? "" : "safe";
  location.reload();
});
window.botCompare = { theirs, ours, show, told };
