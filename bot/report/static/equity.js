// Equity and drawdown of a report, drawn by the time chart library; follows the system's light or dark.
"use strict";

(() => {
  const box = document.getElementById("equity-chart");
  const held = document.getElementById("equity");
  if (!box || !held || typeof LightweightCharts === "undefined") return;
  const data = JSON.parse(held.textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const chart = LightweightCharts.createChart(box, { autoSize: true, layout: { attributionLogo: true }, timeScale: { timeVisible: true, borderVisible: false }, rightPriceScale: { borderVisible: false } });
  const line = chart.addSeries(LightweightCharts.AreaSeries, { lineWidth: 2, priceLineVisible: false, title: "USDT" });
  const fall = chart.addSeries(LightweightCharts.AreaSeries, { lineWidth: 1, priceLineVisible: false, lastValueVisible: false, invertFilledArea: true, priceFormat: { type: "custom", formatter: (v) => `${v.toFixed(1)} %`, minMove: 0.01 } }, 1);
  line.setData(data.time.map((time, i) => ({ time, value: data.equity[i] })));
  fall.setData(data.time.map((time, i) => ({ time, value: data.fall[i] })));
  const panes = chart.panes();
  if (panes.length > 1) { panes[0].setStretchFactor(3); panes[1].setStretchFactor(1); }
  const dress = () => {
    chart.applyOptions({
      layout: { background: { type: "solid", color: colour("panel") }, textColor: colour("quiet"), panes: { separatorColor: colour("line") } },
      grid: { vertLines: { color: colour("line") }, horzLines: { color: colour("line") } },
    });
    line.applyOptions({ lineColor: colour("accent"), topColor: `${colour("accent")}44`, bottomColor: `${colour("accent")}05` });
    fall.applyOptions({ lineColor: colour("bad"), topColor: `${colour("bad")}22`, bottomColor: `${colour("bad")}55` });
  };
  fall.priceScale().applyOptions({ scaleMargins: { top: 0.1, bottom: 0.15 } });
  dress();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", dress);
  const edge = Math.max(0.5, 0.02 * data.time.length); // room for the words of the first and the last time
  chart.timeScale().setVisibleLogicalRange({ from: -edge, to: data.time.length - 1 + edge });
})();
