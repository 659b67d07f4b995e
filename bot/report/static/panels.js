// How many bars pass which condition, whether what was shown stayed as it was, and how fresh the data are.

import { byId, describe, element, number } from "/format.js";

export function showTruth(seen) {
  funnel(seen.funnel);
  truth(seen);
  streams(seen);
}

function funnel(told) {
  if (!told) return;
  byId("funnel-bars").textContent = `${number(told.bars, 0)} bars of this session, ${number(told.days, 1)} days`;
  const share = (count) => (told.bars ? `${number(count, 0)} (${number((100 * count) / told.bars, 1)} %)` : "-");
  const rows = told.conditions.map((_, i) => cells([
    told.titles[i], share(told.long.alone[i]), number(told.long.sequence[i], 0), share(told.short.alone[i]), number(told.short.sequence[i], 0),
  ]));
  const perDay = (count) => `${number(count, 0)}${told.days >= 1 ? ` (${number(count / told.days, 1)} a day)` : ""}`;
  rows.push(cells(["signal", "", perDay(told.long.signals), "", perDay(told.short.signals)]));
  byId("funnel").replaceChildren(...rows);
}

function cells(texts) {
  const row = document.createElement("tr");
  row.append(...texts.map((text) => element("td", text)));
  return row;
}

function truth(seen) {
  const rows = [];
  if (seen.ledger) {
    rows.push(["repaint", seen.ledger.text, seen.ledger.rewritten ? "bad" : seen.ledger.judged ? "good" : ""]);
    if (seen.ledger.first) rows.push(["first", seen.ledger.first, "bad"]);
  }
  const { checked, mismatched } = seen.parity;
  if (checked !== null) {
    rows.push(["15m bars", `${number(mismatched, 0)} of ${number(checked, 0)} differ from the exchange's own`, mismatched ? "bad" : checked ? "good" : ""]);
  }
  if (!seen.compared.length) rows.push(["your chart", "no export compared yet: python -m bot compare FILE"]);
  for (const row of seen.compared) {
    rows.push(["your chart", [row.export, row.day].filter(Boolean).join(" · ")]);
    rows.push(["", row.sentence, row.sentence.startsWith("100 %") ? "good" : "warn"]);
    if (row.signal !== null) rows.push(["signal", `${row.signal_text} in both`, row.signal < 1 ? "warn" : "good"]);
    for (const [side, shares] of Object.entries(row.conditions)) {
      const parts = shares.flatMap(([name, share, text]) => [`${name} `, element("span", text, share < 1 ? "warn" : "good"), " · "]);
      if (parts.length) rows.push([side, parts.slice(0, -1)]);
    }
    if (row.borrowed.length) rows.push(["not exported", `${row.borrowed.join(", ")}: ours on both sides`]);
  }
  describe(byId("truth"), rows);
}

function streams(seen) {
  const lagOf = (row) => (row.p50_ms === null ? "" : `lag ${number(row.p50_ms, 0)} ms, p99 ${number(row.p99_ms, 0)}`);
  const rows = seen.streams.map((row) => [
    row.name, [row.heard ? "" : "NOT HEARD", row.age_ms === null ? "" : `${number(row.age_ms / 1000, 1)} s old`, lagOf(row)].filter(Boolean).join(", ") || "heard",
    row.heard ? "" : "bad",
  ]);
  for (const row of seen.times) rows.push([row.name, `p50 ${number(row.p50_ms, 0)}, p99 ${number(row.p99_ms, 0)}, longest ${number(row.max_ms, 0)} ms`]);
  if (seen.verdict.open_ms && seen.clock_ms) rows.push(["last decision", `${number((seen.clock_ms - seen.verdict.open_ms - 180000) / 1000, 0)} s ago`]);
  if (seen.source) rows.push(["from", seen.source]);
  describe(byId("streams"), rows);
}
