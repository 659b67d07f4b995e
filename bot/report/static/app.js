// Listens to the bot's server-sent events and hands each kind to the part of the page that shows it.

import { byId } from "/format.js";
import { watchPass, wireCommands } from "/commands.js";
import { addEquity, addNews, addTrades, setEquity, setNews, setTrades, wireTrades } from "/history.js";
import { onBars, onState, showBar, startChart } from "/live_chart.js";
import { showTruth } from "/panels.js";
import { showPosition } from "/position.js";
import { showState, trouble } from "/state.js";

const handlers = {
  status(seen) {
    showState(seen);
    showPosition(seen);
    showTruth(seen);
    onState(seen);
  },
  bars: onBars,
  trades: setTrades,
  trade: addTrades,
  equity: setEquity,
  point: addEquity,
  news: newsOf(),
};

// The first news after (re)connecting are the last ones the bot remembers; later ones are added.
function newsOf() {
  let fresh = true;
  return (rows) => {
    if (fresh) setNews(rows);
    else addNews(rows);
    fresh = false;
  };
}

wireCommands();
wireTrades(showBar);
startChart();
watch();

// The browser comes back by itself after a lost connection, but not after a refusal.
async function watch() {
  const events = new EventSource(`/events${await watchPass()}`);
  events.addEventListener("open", () => { handlers.news = newsOf(); });
  for (const kind of Object.keys(handlers)) {
    events.addEventListener(kind, (event) => handlers[kind](JSON.parse(event.data)));
  }
  events.addEventListener("error", () => {
    byId("banner").dataset.venue = "lost";
    byId("mode").textContent = "NOT CONNECTED";
    trouble(["No connection to the bot: what is shown here is old. Trying again."]);
    if (events.readyState === EventSource.CLOSED) setTimeout(watch, 5000);
  });
}
