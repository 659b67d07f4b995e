"""Our own bug in the middle of a trade: the bot halts, what is open is closed at the exchange, and the person is told."""

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest

from bot.app import venues
from bot.app.run import Bot
from bot.config import Config
from bot.core.errors import InvariantError
from bot.core.events import Fill
from bot.core.intents import Alert
from bot.journal import Journal
from tests.test_run import market, options_for  # noqa: F401  # the fixture

pytestmark = [pytest.mark.wire, pytest.mark.slow]


@pytest.mark.parametrize("error", [InvariantError("planted: the book does not add up"), KeyError("planted")])
def test_a_halt_in_an_open_trade_leaves_nothing_open_and_sends_nothing_more_of_the_engines(market, tmp_path, error):  # noqa: F811
    async def play():
        async with AsyncExitStack() as stack:
            journal = stack.enter_context(Journal(tmp_path / "bot.db"))
            # Paced: closing by rule waits by the wall, and the market should not be over before it has been done.
            options = options_for(market, speed=600.0)
            venue = await venues.sim(Config(), options, stack)
            bot = Bot(Config(), options, venue, journal)
            stack.push_async_callback(bot.close)
            await bot.start()
            news = bot.hub.subscribe()
            true, fills = bot.engine.handle, []

            def handle(event):
                outputs = true(event)
                if isinstance(event, Fill):
                    fills.append(event)
                    if len(fills) == 2:
                        raise error
                return outputs

            bot.engine.handle = handle
            running = asyncio.create_task(bot.run(stack))
            for _ in range(2_400):
                await asyncio.sleep(0.05)
                if bot.halt.flat or running.done():
                    break
            async with aiohttp.ClientSession() as session, session.get(f"{venue.rest_url}/sim/state") as reply:
                state = await reply.json()
            intents_at_halt = len(list(journal.intents(bot.session.id)))
            await asyncio.sleep(1.0)
            intents_later = len(list(journal.intents(bot.session.id)))
            shown = bot.snapshot()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return bot, state, shown, [n for n in news.take() if isinstance(n, Alert)], (intents_at_halt, intents_later)

    bot, state, shown, alerts, (at_halt, later) = asyncio.run(play())

    assert bot.halt.flat
    assert not [p for p in state["positions"] if float(p["positionAmt"])]
    assert not [o for o in state["orders"] if o["status"] in ("NEW", "PARTIALLY_FILLED")]
    assert not [a for a in state["algo_orders"] if a["algoStatus"] == "NEW"]
    assert "planted" in shown["limits"]["entries_off"]
    assert shown["halted"].startswith("halted: ")
    assert any(a.level == "critical" and "planted" in a.text for a in alerts)
    assert any("halted and flat" in a.text for a in alerts)
    assert at_halt == later
