"""What is believed about the account, and on whose word: one wrong message or read never takes the stops of a position away."""

from dataclasses import replace
from decimal import Decimal as D

import pytest

from bot.core.events import AccountUpdate, Fill, OrderUpdate
from bot.core.intents import Alert, CancelOrder
from bot.core.types import OrderReport, OrderSide, OrderStatus, OrderType, PositionReport, Side
from bot.engine import view as engine_view
from bot.orders import beliefs
from bot.orders.bracket import Bracket
from tests.engine_harness import BTC, ETH, SOL, signal_row, started

S = OrderStatus
both = pytest.mark.parametrize("side", Side)


def open_trade(side=Side.LONG, *overrides):
    """A trade whose fills everybody has borne out, with its two legs."""
    h = started(side, *overrides).enter()
    h.run(15_000)
    h.send(h.snapshot())
    return h


def lie(h, seconds, **parts):
    """Snapshots in which these parts are wrong, one a second; the bot's own questions get the same wrong answers."""
    truth, h.snapshot = h.snapshot, lambda **how: replace(truth(**how), **parts)
    for _ in range(seconds):
        h.send(h.snapshot())
        h.run(1_000)
    h.snapshot = truth


def stops(h):
    return {s: [o.intent.client_id for o in (*h.live("sl", s), *h.live("cs", s))] for s in (BTC, ETH, SOL)}


def goes_on_to_its_end(h):
    """The truth again: the trade runs to its stop and is booked with what really happened."""
    h.run(10_000)
    assert engine_view.snapshot(h.engine)["contradictions"] == {}
    h.move(h.at(-106))
    h.run(2_000)
    assert h.record.exit_reason == "stop"
    assert not any(h.position.values())
    assert not any(o.live for o in h.orders.values())
    assert h.record.pnl == h.cash - h.wallet
    assert h.engine.portfolio.account.wallet == pytest.approx(h.cash, abs=D("0.0000001"))


@both
@pytest.mark.parametrize("seconds", [1, 6, 40])
def test_an_empty_position_read_changes_nothing_however_long_it_lasts(side, seconds):
    h = open_trade(side)
    before = stops(h)

    lie(h, seconds, positions=())

    assert stops(h) == before
    assert not h.placed("xx")
    assert sum("contradicts itself" in a.text for a in h.of(Alert)) == (0 if seconds < 6 else 1)
    goes_on_to_its_end(h)


@pytest.mark.parametrize("amount", ["0.3", "-0.714", "0"])
def test_a_position_read_that_shows_less_or_the_other_side_is_not_believed(amount):
    h = open_trade()
    before = stops(h)
    rows = tuple(p for p in h.snapshot().positions if p.symbol != BTC)

    lie(h, 8, positions=(*rows, PositionReport(BTC, D(amount), D(60_000))))

    assert stops(h)[BTC] == before[BTC]
    goes_on_to_its_end(h)


def test_empty_positions_and_an_empty_list_of_stops_together_are_not_believed():
    h = open_trade()

    lie(h, 15, positions=(), orders=())

    assert all(stops(h).values())
    assert h.engine.trade.bracket.held == D("0.714")
    goes_on_to_its_end(h)


def test_empty_positions_an_account_update_that_says_flat_and_an_unchanged_wallet_are_not_believed():
    h = open_trade()

    h.send(AccountUpdate(h.now, "ORDER", h.balance, D(0), (PositionReport(BTC, D(0), D(0)),)))
    lie(h, 15, positions=())

    assert all(stops(h).values())
    goes_on_to_its_end(h)


def test_an_empty_wallet_with_a_position_open_is_a_contradiction_and_no_loss():
    h = open_trade()

    lie(h, 8, wallet=D(0))

    assert h.engine.portfolio.account.wallet == pytest.approx(h.balance, abs=D("0.01"))
    assert not h.engine.limits.soft_stopped
    assert any("balance read shows a wallet of 0" in a.text for a in h.of(Alert))
    goes_on_to_its_end(h)


@both
def test_a_phantom_fill_of_our_stop_is_taken_back_and_neither_stop_nor_hedge_goes(side):
    h = open_trade(side)
    (stop,) = h.live("sl")
    before = stops(h)

    h.send(Fill(h.now, stop.intent.client_id, BTC, side.exit, D("0.714"), h.at(-105), D(1), False, 999_999))
    h.send(replace(h.told(stop), status=S.FILLED, filled_qty=D("0.714")))
    h.run(8_000)

    assert h.engine.portfolio.counters["fills_taken_back"] == 1
    assert stops(h) == before
    assert {s: bool(q) for s, q in h.position.items()} == {BTC: True, ETH: True, SOL: True}
    assert h.engine.trade.bracket.held == D("0.714")
    goes_on_to_its_end(h)


@pytest.mark.parametrize("planted", [False, True])
def test_stops_that_go_on_one_witness_are_noticed(planted, monkeypatch):
    """All heals within seconds, so random runs with their patience for lies do not see it."""
    if planted:
        monkeypatch.setattr(beliefs, "still_unproved", lambda *arguments: False)
        monkeypatch.setattr(Bracket, "flat_confirmed", property(lambda self: True, lambda self, value: None))
    h = open_trade()
    (stop,) = h.live("sl")

    h.send(Fill(h.now, stop.intent.client_id, BTC, OrderSide.SELL, D("0.714"), h.at(-105), D(1), False, 999_999))
    h.run(8_000)

    assert bool(h.of(CancelOrder, "cs")) is planted


def test_a_phantom_fill_that_an_account_update_backs_strips_nothing():
    h = open_trade()
    (stop,) = h.live("sl")

    h.send(Fill(h.now, stop.intent.client_id, BTC, OrderSide.SELL, D("0.714"), h.at(-105), D(1), False, 999_999))
    h.send(AccountUpdate(h.now, "ORDER", D(9_900), D(0), (PositionReport(BTC, D(0), D(0)),)))
    h.run(8_000)

    assert stops(h)[BTC]
    assert h.engine.trade.bracket.held == D("0.714")
    goes_on_to_its_end(h)


@both
def test_two_reads_that_deny_an_entry_which_the_stream_reported_twice_take_nothing_back(side):
    h = started(side).enter()
    h.send(
        AccountUpdate(h.now, "ORDER", D(10_000), D(0), tuple(PositionReport(s, q, D(0)) for s, q in h.position.items()))
    )
    before = stops(h)

    lie(h, 40, positions=(), fills=())

    assert "fills_taken_back" not in h.engine.portfolio.counters
    assert stops(h) == before
    assert h.engine.trade.bracket.held == abs(h.position[BTC])
    goes_on_to_its_end(h)


def test_an_update_that_promises_a_fill_which_never_comes_is_corrected():
    h = open_trade()
    (stop,) = h.live("sl")

    h.send(replace(h.told(stop), status=S.FILLED, filled_qty=D("0.714")))
    h.run(20_000)

    assert h.engine.trade.bracket.exposed == D("0.714")
    goes_on_to_its_end(h)


@both
def test_an_exit_that_is_said_to_have_filled_and_never_was_taken_strips_nothing(side):
    h = open_trade(side)
    before = stops(h)
    h.arrive = lambda intent: h.send(
        OrderUpdate(h.now, intent.client_id, intent.symbol, S.FILLED, intent.side, intent.qty, intent.qty, h.at(0))
    )

    h.command("flatten")
    h.run(9_000)
    exits, held = h.placed("xx"), stops(h)
    del h.arrive
    h.run(10_000)

    assert exits
    assert held == before
    assert not any(h.position.values())
    assert h.record.pnl == h.cash - h.wallet


@both
@pytest.mark.parametrize("how", [{"qty": D("0.3")}, {"price": D("59990")}, {"fee": D(90)}])
def test_a_fill_that_is_told_with_other_figures_is_set_right_by_the_list_of_trades(side, how):
    h = open_trade(side)
    send = h.send
    h.send = lambda event: send(replace(event, **how) if isinstance(event, Fill) and event.symbol == BTC else event)

    h.move(h.at(-106))
    h.run(1_000)
    del h.send
    h.run(60_000)

    assert h.record.exit_reason == "stop"
    assert not any(h.position.values())
    assert not any(o.live for o in h.orders.values())
    assert h.record.pnl == h.cash - h.wallet
    assert engine_view.snapshot(h.engine)["contradictions"] == {}
    assert any("corrected after the exchange's list" in a.text for a in h.of(Alert))


@pytest.mark.parametrize("how", [{"price": D("600000")}, {"price": D(600)}, {"fee": D(6_000)}])
def test_a_price_or_fee_that_no_market_makes_trips_no_limit(how):
    h = open_trade()
    send = h.send
    h.send = lambda event: send(replace(event, **how) if isinstance(event, Fill) and event.symbol == BTC else event)

    h.quotes()
    h.move(h.at(-106))
    h.run(1_000)
    del h.send
    h.run(60_000)

    assert h.record.pnl == h.cash - h.wallet
    assert not h.engine.limits.soft_stopped
    assert not h.engine.limits.day_hit


def test_a_phantom_fill_of_an_unknown_order_is_never_booked():
    h = open_trade()
    before = stops(h)

    h.send(Fill(h.now, "web_phantom", BTC, OrderSide.SELL, D("0.714"), h.at(0), D(0), False, 777_777))
    h.run(15_000)

    assert stops(h) == before
    assert h.engine.trade.bracket.held == D("0.714")
    assert any("777777" in a.text and "not believed" in a.text for a in h.of(Alert))
    goes_on_to_its_end(h)


def test_a_trades_read_that_invents_a_closing_trade_strips_nothing():
    h = open_trade()
    fake = Fill(h.now, "web_fake", BTC, OrderSide.SELL, D("0.714"), h.at(0), D(0), False, 888_888)

    lie(h, 8, fills=(*h.fills, fake))

    assert all(stops(h).values())
    assert h.engine.trade.bracket.held == D("0.714")
    goes_on_to_its_end(h)


@pytest.mark.parametrize("role", ["sl", "cs"])
def test_a_stop_that_is_reported_as_cancelled_and_is_listed_stays_or_is_replaced_but_never_lacks(role):
    h = open_trade()
    (order,) = h.live(role)

    h.send(replace(h.told(order), status=S.CANCELED, at_ms=h.now))
    for _ in range(20):
        h.run(500)
        assert h.live("sl")
        assert h.live("cs")

    assert len(h.live("sl")) == 1
    goes_on_to_its_end(h)


def test_a_real_close_by_hand_is_believed_within_a_second():
    h = open_trade()

    h.foreign("web_1", OrderSide.SELL, h.position[BTC], h.at(5))
    h.run(1_000)

    assert h.record.exit_reason == "external"
    assert not any(h.position.values())
    assert not any(o.live for o in h.orders.values())


def test_the_stops_of_a_closed_position_go_only_when_the_exchange_confirms_it():
    h = open_trade()
    h.snapshots = False

    h.move(h.at(30))
    h.command("flatten")
    h.run(1_000)
    waiting = (h.position[BTC], len(h.live("sl")), h.engine.trade is not None)
    h.snapshots = True
    h.run(6_000)

    assert waiting == (0, 1, True)
    assert h.engine.trade is None
    assert not any(o.live for o in h.orders.values())


def test_a_position_that_the_position_read_alone_invented_is_given_up_by_its_word_after_a_minute():
    h = started()
    ghost = (PositionReport(ETH, D(2), D(3_000)),)
    lie(h, 5, positions=ghost)
    believed = dict(h.engine.portfolio.unexplained.qty)
    for order in h.orders.values():  # a closePosition stop ends with its position
        order.status = S.EXPIRED

    for _ in range(70):
        h.send(h.snapshot())
        h.run(1_000)

    assert believed == {ETH: D(2)}
    assert h.engine.portfolio.unexplained.qty == {}


def test_a_protective_order_that_nobody_knows_stays_until_no_position_has_been_seen_for_long():
    h = started()
    guard = OrderReport(
        "rbS-cs-0-0000001-01-a1", BTC, OrderSide.SELL, OrderType.STOP_MARKET, S.NEW, D(0), D(0), D(0), D(59_000),
        False, True, True, h.now,
    )  # fmt: skip

    lie(h, 15, orders=(guard,))
    early = h.of(CancelOrder)
    h.next_bar(signal_row(Side.LONG))
    resting = h.decision.code
    lie(h, 25, orders=(guard,))

    assert early == []
    assert resting == "unexplained"
    assert guard.client_id in [o.client_id for o in h.of(CancelOrder)]


def test_a_forged_deposit_is_taken_back_by_the_bookings():
    h = started()

    h.send(AccountUpdate(h.now, "DEPOSIT", D(1_010_000), D(1_000_000), ()))
    h.run(6_000)

    assert h.engine.portfolio.account.equity == D(10_000)
    assert h.engine.limits.day_r == 0


def test_an_order_update_of_the_other_side_changes_nothing():
    h = open_trade()
    (stop,) = h.live("sl")
    before = stops(h)

    h.send(OrderUpdate(h.now, stop.intent.client_id, BTC, S.NEW, OrderSide.BUY, D(1), D(0), D(0)))
    h.run(1_000)

    assert stops(h) == before
    goes_on_to_its_end(h)


def test_what_the_position_read_alone_once_reported_does_not_weaken_a_later_trade():
    h = started()
    h.position[BTC] = D("0.5")
    h.send(h.snapshot())
    h.run(100)
    h.foreign("web_1", OrderSide.SELL, D("0.5"), h.price[BTC])
    h.run(3_000)
    h.send(h.snapshot())
    assert h.engine.portfolio.alone == {}


def test_a_wallet_that_a_person_accepts_is_not_booked_as_the_open_trades_funding():
    h = open_trade()
    h.cash += D(3_000)
    h.send(h.snapshot())
    h.run(3_000)

    h.command("start_entries")
    h.send(h.snapshot())

    assert h.engine.portfolio.account.wallet == pytest.approx(h.balance, abs=D("0.01"))
    assert h.engine.trade.funding == 0
