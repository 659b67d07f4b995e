// Above the chart: the symbols as tabs, what is drawn, colours; and the keys that do the same. Choices are kept in the browser.

import { element } from "/format.js";
import { LAYERS, View } from "/chart.js";

const STORE = "bot-chart";
const KEYS = "1 2 3: symbol · ← →: move (Shift: faster) · + −: zoom · End: newest bar · L: layers · C: colours";

export function choices() {
  try {
    return JSON.parse(localStorage.getItem(STORE)) ?? {};
  } catch { // private windows and files may have no storage: nothing is kept then
    return {};
  }
}

function keep(values) {
  try {
    localStorage.setItem(STORE, JSON.stringify({ ...choices(), ...values }));
  } catch { // as above
  }
}

export function isDark() {
  return (choices().theme ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark")) === "dark";
}

// Build the view and its controls inside `root`; `symbols` are the tabs, `onSymbol` is told which one is wanted.
export function mountChart(root, { symbols, onSymbol }) {
  const kept = choices();
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  const bar = element("div", "", "chart-bar");
  const tabs = element("div", "", "tabs");
  tabs.setAttribute("role", "tablist");
  const legend = element("p", "", "chart-legend number");
  const box = element("div", "", "chart-box");
  const layersBox = element("details", "", "layers");
  layersBox.append(element("summary", "Layers"));
  const colours = button("Colours", "Blue and orange instead of green and red");
  const theme = button("Light / dark", "Light or dark");
  const help = button("?", KEYS);
  bar.append(tabs, layersBox, colours, theme, help);
  root.replaceChildren(bar, legend, box);
  let safe = kept.safe ?? false;
  const view = new View(box, { dark: isDark(), safe });
  view.keysHelp = KEYS;

  const buttons = symbols.map((symbol, i) => {
    const tab = button(symbol.replace("USDT", ""), `${symbol} perpetual, key ${i + 1}`);
    tab.setAttribute("role", "tab");
    tab.dataset.symbol = symbol;
    tab.addEventListener("click", () => choose(symbol));
    return tab;
  });
  tabs.append(...buttons);
  function choose(symbol) {
    for (const tab of buttons) tab.setAttribute("aria-selected", String(tab.dataset.symbol === symbol));
    keep({ symbol });
    onSymbol(symbol);
  }

  for (const [name, [label, on]] of Object.entries(LAYERS)) {
    const shown = kept.layers?.[name] ?? on;
    view.layers[name] = shown;
    const row = element("label");
    const tick = element("input");
    tick.type = "checkbox";
    tick.checked = shown;
    tick.dataset.layer = name;
    tick.addEventListener("change", () => {
      view.show(name, tick.checked);
      keep({ layers: { ...choices().layers, [name]: tick.checked } });
    });
    row.append(tick, ` ${label}`);
    layersBox.append(row);
  }
  const paint = () => {
    const dark = isDark();
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    document.documentElement.dataset.colours = safe ? "safe" : "usual";
    view.recolour(dark, safe);
  };
  colours.addEventListener("click", () => { safe = !safe; keep({ safe }); paint(); });
  theme.addEventListener("click", () => { keep({ theme: isDark() ? "light" : "dark" }); paint(); });
  help.addEventListener("click", () => { legend.textContent = KEYS; });
  matchMedia("(prefers-color-scheme: light)").addEventListener("change", paint);
  paint();

  const tell = (index) => {
    legend.replaceChildren(...view.words(index).flatMap(([name, text]) => {
      const part = element("span", text ? `${name} ` : name, text ? "" : "when");
      if (text) part.append(element("b", text));
      return [part, document.createTextNode(" ")];
    }));
  };
  view.onBar = tell;
  document.addEventListener("keydown", (event) => {
    if (event.target instanceof HTMLInputElement && event.target.type !== "checkbox") return;
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const far = event.shiftKey ? 50 : 10;
    const actions = {
      ArrowLeft: () => view.pan(-far), ArrowRight: () => view.pan(far), "+": () => view.zoom(0.7), "=": () => view.zoom(0.7), "-": () => view.zoom(1 / 0.7),
      End: () => view.latest(), l: () => { layersBox.open = !layersBox.open; }, c: () => colours.click(),
    };
    const number = Number(event.key);
    const action = number >= 1 && number <= symbols.length ? () => choose(symbols[number - 1]) : actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  return { view, choose, tell, first: symbols.includes(kept.symbol) ? kept.symbol : symbols[0] };
}

function button(text, title) {
  const node = element("button", text, "small");
  node.type = "button";
  node.title = title;
  return node;
}
