// Operator's commands: a token, and for flatten a second press.

import { byId } from "/format.js";

const SURE_MS = 4000;

export function wireCommands() {
  for (const button of document.querySelectorAll("button[data-command]")) {
    const words = button.textContent;
    let sureUntil = 0;
    button.addEventListener("click", async () => {
      if (button.dataset.command === "flatten" && Date.now() > sureUntil) {
        sureUntil = Date.now() + SURE_MS;
        button.textContent = "Press again to close everything";
        button.classList.add("sure");
        setTimeout(() => calm(button, words), SURE_MS);
        return;
      }
      sureUntil = 0;
      calm(button, words);
      await send(button.dataset.command);
    });
  }
}

function calm(button, words) {
  button.textContent = words;
  button.classList.remove("sure");
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
