// Colours by role: TradingView's own, or blue and orange for eyes that do not tell green from red; light and dark.

const DARK = {
  ground: "#131722", text: "#b8bdc9", faint: "#7d8494", grid: "#1f2531", edge: "#2f3644",
  up: "#089981", down: "#f23645", upLine: "#3f7bf6", downLine: "#f0525e", wave: "#5b9cf6", waveSignal: "#f0b64d", plain: "#8b93a5",
};
const LIGHT = {
  ground: "#ffffff", text: "#30343f", faint: "#6a7180", grid: "#eef0f4", edge: "#d6dae3",
  up: "#089981", down: "#f23645", upLine: "#2157f3", downLine: "#e02434", wave: "#1f5fd0", waveSignal: "#b06f00", plain: "#6f7788",
};
const SAFE_DARK = { up: "#56b4e9", down: "#e69f00", upLine: "#79c4f2", downLine: "#f2b84b", wave: "#56b4e9", waveSignal: "#cc79a7" };
const SAFE_LIGHT = { up: "#0072b2", down: "#d55e00", upLine: "#0072b2", downLine: "#c05000", wave: "#0072b2", waveSignal: "#a3437a" };

export function palette(dark, safe) {
  return { ...(dark ? DARK : LIGHT), ...(safe ? (dark ? SAFE_DARK : SAFE_LIGHT) : {}) };
}

const cache = new Map();

// A colour with another opacity: "#rrggbb" and 0 to 1.
export function faded(colour, alpha) {
  const key = `${colour}${alpha}`;
  let found = cache.get(key);
  if (!found) {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    found = `rgba(${r}, ${g}, ${b}, ${alpha})`;
    cache.set(key, found);
  }
  return found;
}
