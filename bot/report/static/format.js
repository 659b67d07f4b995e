// Numbers and times as text, and elements without markup: everything shown goes through textContent.

export function number(value, digits = 2, signed = false) {
  if (value === null || value === undefined || !Number.isFinite(Number(value))) return "-";
  const text = Number(value).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return signed && Number(value) > 0 ? `+${text}` : text;
}

export function percent(value, digits = 2) {
  return value === null || value === undefined ? "-" : `${number(value * 100, digits)} %`;
}

export function plain(value) {
  return value === null || value === undefined ? "-" : String(Number(Number(value).toPrecision(8)));
}

export function utc(ms, seconds = false) {
  if (!Number.isFinite(ms) || ms <= 0) return "";
  return new Date(ms).toISOString().slice(0, seconds ? 19 : 16).replace("T", " ");
}

export function element(tag, text = "", name = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  if (name) node.className = name;
  return node;
}

export function byId(id) {
  return document.getElementById(id);
}

// A list of [term, text, class] as a definition list.
export function describe(list, rows) {
  list.replaceChildren(...rows.flatMap(([term, text, name]) => {
    const told = element("dd", Array.isArray(text) ? "" : text, name ?? "");
    if (Array.isArray(text)) told.append(...text);
    return [element("dt", term), told];
  }));
}
