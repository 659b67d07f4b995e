// Listens to the bot's server-sent events and hands each kind to the part of the page that shows it.

import { byId } from "/format.js";
import { wireCommands } from "/commands.js";
import { addEquity, addNews, addTrades, setEquity, setNews, setTrades } from "/history.js";
import { showState, trouble } from "/state.js";

const handlers = {
  status: showState,
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
const events = new EventSource("/events");
events.addEventListener("open", () => { handlers.news = newsOf(); });
for (const kind of Object.keys(handlers)) {
  events.addEventListener(kind, (event) => handlers[kind](JSON.parse(event.data)));
}
events.addEventListener("error", () => {
  byId("banner").classList.add("lost");
  trouble(["No connection to the bot: what is shown here is old. Trying again."]);
});
