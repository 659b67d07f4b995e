"""Leverage, margin type and margin calls in a trade: reported at once, and liquidation is judged anew against the stops.

The trade of the harness: entry 60,000, R 105, catastrophe stop 262.5 away; 42,840 of notional with 0.4 % of maintenance. At a
leverage of L liquidation lies 1/L - 0.4 % away: 150x between the stops, 100x behind both.
"""

from decimal import Decimal as D
from typing import Any

import pytest

from bot.core.events import AccountUpdate, LeverageSet, MarginCall, MarginTypeSet
from bot.core.intents import Alert, PlaceOrder, RequestSnapshot, SetLeverage
from bot.core.records import TradeRecord
from bot.core.types import PositionReport, Side
from bot.engine import view as engine_view
from tests.engine_harness import BTC, ETH, Harness, started

both = pytest.mark.parametrize("side", Side)


def critical(h: Harness) -> list[str]:
    return [a.text for a in h.of(Alert) if a.level == "critical"]


def asked(h: Harness) -> list[str]:
    return [r.reason for r in h.of(RequestSnapshot) if "margin of" in r.reason]


def exits(h: Harness, symbol: str = BTC) -> list[PlaceOrder]:
    return h.placed("xx", symbol)


def tell(h: Harness, share: str, symbol: str = BTC) -> None:
    """The exchange reports an isolated wallet of `share` of the notional."""
    qty, entry = h.position[symbol], h.engine.portfolio.bracket(symbol).average
    report = PositionReport(symbol, qty, entry, abs(qty) * entry * D(share))
    h.now += 1
    h.send(AccountUpdate(h.now, "MARGIN_TRANSFER", h.cash, D(0), (report,)))


@both
def test_leverage_changed_in_a_trade_is_reported_at_once_in_one_sentence(side):
    h = started(side).enter()

    batch = h.send(LeverageSet(h.now, BTC, 100))

    (text,) = [o.text for o in batch if isinstance(o, Alert)]
    assert text == "BTCUSDT: leverage changed from 20x to 100x with a position open, not by this bot"
    assert critical(h) == [text]
    assert asked(h) == ["the margin of BTCUSDT was changed"]
    h.run(5_000)
    assert exits(h) == []  # 0.6 % away: behind both stops
    assert critical(h) == [text]


@both
def test_what_the_bot_itself_set_and_what_nothing_stands_on_raises_no_alarm(side):
    h = started(side)
    h.send(LeverageSet(h.now, BTC, 50))  # flat: the bot sets it back
    assert [o for o in h.of(SetLeverage) if o.symbol == BTC]
    h.run(100)
    h.enter()
    h.send(LeverageSet(h.now, BTC, 20))  # the stream's echo of it
    h.send(LeverageSet(h.now, "SOLUSDT", 20))
    h.run(3_000)

    assert critical(h) == []
    assert asked(h) == []


@both
def test_liquidation_between_the_stops_is_reported_and_the_trade_goes_on(side):
    h = started(side).enter()

    h.send(LeverageSet(h.now, BTC, 150))
    h.run(1_000)
    assert len(critical(h)) == 1  # the position's wallet is awaited
    h.run(1_500)

    assert len(critical(h)) == 2
    assert "lies too near behind the stop" in critical(h)[1]
    assert exits(h) == []
    assert h.engine.trade is not None


@both
def test_liquidation_before_the_stop_is_left_at_market(side):
    h = started(side).enter()

    h.send(LeverageSet(h.now, BTC, 150))
    tell(h, "0.005")  # 0.1 % away, the stop 0.175 %

    assert "comes before the stop" in critical(h)[-1]
    assert len(exits(h)) == 1
    h.run(3_000)
    (record,) = h.of(TradeRecord)
    assert record.exit_reason == "liquidation_near"
    assert h.position[BTC] == 0


@both
def test_the_wallet_that_the_exchange_reports_after_the_change_counts_not_the_leverage(side):
    h = started(side).enter()

    tell(h, "0.005")  # before: nothing was changed, a single report closes nothing
    h.send(LeverageSet(h.now, BTC, 150))
    tell(h, "0.05")  # the margin stayed where it was
    h.run(5_000)

    assert len(critical(h)) == 1
    assert exits(h) == []


@both
def test_a_leg_is_judged_like_the_trade_and_left_by_itself(side):
    h = started(side).enter()
    leg = h.engine.portfolio.bracket(ETH)
    assert leg is not None
    assert leg.held > 0

    h.send(LeverageSet(h.now, ETH, 100))
    tell(h, "0.0045", ETH)
    h.run(1_000)

    assert any(text.startswith("ETHUSDT: leverage changed from 20x to 100x") for text in critical(h))
    assert leg.exit_reason == "liquidation_near"
    assert h.position[ETH] == 0
    assert exits(h) == []
    assert h.position[BTC] != 0


def test_cross_margin_in_a_trade_is_reported_and_no_entry_follows_until_it_is_isolated_again():
    h = started().enter()

    h.send(MarginTypeSet(h.now, BTC, isolated=False))
    h.send(MarginTypeSet(h.now, BTC, isolated=False))
    h.run(3_000)
    assert critical(h) == [
        "BTCUSDT: margin type changed from isolated to cross with a position open, not by this bot; "
        "the futures wallet stands behind it now"
    ]
    assert exits(h) == []  # liquidation lies farther away than before

    h.command("flatten")
    h.run(3_000)
    h.command("start_entries")
    h.signal()
    assert h.decision.code == "margin_type"

    h.send(MarginTypeSet(h.now, BTC, isolated=True))
    h.signal()
    assert h.decision.code == "entered"


def test_isolated_margin_as_it_is_says_nothing():
    h = started().enter()

    h.send(MarginTypeSet(h.now, BTC, isolated=True))

    assert critical(h) == []


@both
def test_a_margin_call_is_an_alarm_and_judges_what_it_names(side):
    h = started(side).enter()

    h.send(MarginCall(h.now, (BTC,)))
    assert critical(h) == ["margin call of the exchange: BTCUSDT"]
    assert asked(h) == ["the margin of BTCUSDT was changed"]
    tell(h, "0.005")

    assert len(exits(h)) == 1


def test_a_change_that_ends_with_the_trade_is_forgotten_and_state_survives_a_digest():
    h = started().enter()
    digests = [engine_view.digest(h.engine)]
    h.send(LeverageSet(h.now, BTC, 150))
    digests.append(engine_view.digest(h.engine))
    h.command("flatten")
    h.run(3_000)

    watch: Any = h.engine.liquidation
    assert (watch.due, watch.since, watch.wallets) == ({}, {}, {})
    assert len(set(digests)) == 2
    assert not any("liquidation" in text for text in critical(h))
    assert h.engine.market_state.leverage[BTC] == 20  # flat: set back
