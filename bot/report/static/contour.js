// The contour figure of a search in the page's own colours, light or dark.
"use strict";

(() => {
  const box = document.getElementById("contour-chart");
  const figure = JSON.parse(document.getElementById("contour").textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const draw = () => {
    const axes = {};
    for (const key of Object.keys(figure.layout)) {
      if (/^[xy]axis/.test(key)) axes[key] = { ...figure.layout[key], gridcolor: colour("line"), zerolinecolor: colour("line"), automargin: true };
    }
    for (const trace of figure.data) {
      if (trace.type === "contour") trace.colorscale = [[0, colour("panel")], [1, colour("accent")]];
      if (trace.type === "scatter" && trace.marker) trace.marker = { ...trace.marker, color: colour("text"), size: 4 };
      trace.showlegend = false;
    }
    Plotly.react(box, figure.data, { ...figure.layout, ...axes, title: "", template: undefined, paper_bgcolor: colour("panel"), plot_bgcolor: colour("panel"),
      font: { color: colour("quiet"), size: 11 }, margin: { l: 60, r: 10, t: 10, b: 60 }, height: Math.min(760, Math.max(380, box.clientWidth * 0.7)), autosize: true }, { responsive: true, displaylogo: false });
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
