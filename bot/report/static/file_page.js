// The page of a chart that is a file: everything stands in it, nothing is fetched.

import { byId } from "/format.js";
import { mountChart } from "/toolbar.js";

const told = JSON.parse(byId("chart-data").textContent);
const charts = Object.fromEntries(told.charts.map((chart) => [chart.symbol, chart]));
const page = mountChart(byId("chart"), {
  symbols: Object.keys(charts),
  onSymbol(symbol) {
    page.view.set(charts[symbol]);
    page.view.setTrades(told.trades);
    page.tell(null);
  },
});
window.botChart = page.view;
page.choose(page.first);
