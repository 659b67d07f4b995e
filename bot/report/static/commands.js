// Operator's commands: read-only without a token; flatten is asked again in a dialog that names what will be closed.

import { byId, element, number, plain } from "/format.js";

const STORE = "bot-token";

export function wireCommands() {
  const token = byId("token");
  token.value = given();
  token.addEventListener("input", rights);
  rights();
  for (const button of document.querySelectorAll("button[data-command]")) {
    button.addEventListener("click", () => (button.dataset.command === "flatten" ? ask() : send(button.dataset.command)));
  }
  byId("sure-no").addEventListener("click", () => byId("sure").close());
  byId("sure-yes").addEventListener("click", () => {
    byId("sure").close();
    send("flatten");
  });
}

// The address that the bot prints carries the token after the #: that part never reaches a server or a log.
function given() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (found) {
    history.replaceState(null, "", location.pathname);
    sessionStorage.setItem(STORE, found);
  }
  return found ?? sessionStorage.getItem(STORE) ?? "";
}

// What a request shows to be the operator's: it does not wait when strangers keep the page busy.
export function operators() {
  const value = byId("token")?.value.trim();
  return value && /^[\x21-\x7e]+$/.test(value) ? { "X-Token": value } : {};
}

// An address is no place for the token, so the stream of events shows a pass instead.
export async function watchPass() {
  const headers = operators();
  if (!headers["X-Token"]) return "";
  const response = await fetch("/api/pass", { headers }).catch(() => null);
  return response && response.ok ? `?pass=${(await response.json()).pass}` : "";
}

function rights() {
  const value = byId("token").value.trim();
  sessionStorage.setItem(STORE, value);
  for (const button of document.querySelectorAll("button[data-command]")) button.disabled = !value;
  byId("rights").textContent = value ? "" : "read-only";
}

async function ask() {
  const response = await fetch("/api/status").catch(() => null);
  const seen = response && response.ok ? await response.json() : null;
  byId("sure-mode").textContent = seen ? seen.mode : "The bot did not answer: what it holds is not known.";
  const rows = [];
  if (seen && seen.trade) rows.push(`${seen.trade.side} ${plain(seen.trade.qty)} ${seen.symbol} at ${number(seen.trade.entry, 1)}, now ${number(seen.trade.r, 2, true)} R`);
  for (const leg of seen ? seen.legs : []) if (leg.qty !== null) rows.push(`hedge ${leg.side} ${plain(leg.qty)} ${leg.symbol}`);
  byId("sure-what").replaceChildren(...(rows.length ? rows : ["No position of this bot is open; its orders are cancelled."]).map((text) => element("li", text)));
  byId("sure").showModal();
}

async function send(name) {
  const answer = byId("answer");
  try {
    const response = await fetch("/api/command", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Token": byId("token").value.trim() },
      body: JSON.stringify({ name, args: {} }),
    });
    const body = await response.json();
    answer.textContent = response.ok ? `Accepted: ${body.accepted.replaceAll("_", " ")}.` : `Refused: ${body.error}.`;
    answer.className = response.ok ? "good" : "bad";
  } catch {
    answer.textContent = "The bot did not answer.";
    answer.className = "bad";
  }
}
