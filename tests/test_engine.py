"""The engine as a whole: when it decides, what it refuses, any order of messages, crash and reconciliation, replay."""

import json
import pickle
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal as D
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.errors import InvariantError
from bot.core.events import (
    AccountSnapshot,
    AccountUpdate,
    FeedLost,
    FeedRestored,
    Fill,
    Funding,
    KlineClosed,
    LeverageSet,
    OrderUpdate,
    SessionStarted,
)
from bot.core.intents import Alert, CancelOrder, PlaceOrder, RequestSnapshot, SetLeverage, SetTimer
from bot.core.records import Decision, EquityPoint, TradeRecord
from bot.core.types import OrderReport, OrderSide, OrderStatus, OrderType, PositionReport, Side
from bot.engine import Engine
from bot.engine import view as engine_view
from bot.strategy.trade import Stage
from tests.engine_harness import (
    BASE,
    BTC,
    ETH,
    INSTRUMENTS,
    SOL,
    START,
    Harness,
    Rows,
    config_of,
    quiet_row,
    replayed,
    signal_row,
    started,
)

S = OrderStatus
both = pytest.mark.parametrize("side", Side)


# Decisions


def test_every_closed_live_bar_brings_one_decision_and_one_equity_point_and_history_none():
    h = started()
    assert h.of(Decision) == []
    points = len(h.of(EquityPoint))

    for _ in range(4):
        h.next_bar() if h.open_ms > START else h.bar()

    assert [d.open_ms for d in h.of(Decision)] == [START + i * BASE for i in range(4)]
    assert len(h.of(EquityPoint)) - points == 4
    assert {d.code for d in h.of(Decision)} == {"no_signal"}


def test_the_decision_waits_three_seconds_for_the_legs_and_says_what_was_missing():
    h = started()
    h.price[BTC] = h.at(40)

    h.bar(signal_row(Side.LONG), legs=(ETH,))
    assert h.of(Decision) == []
    h.run(2_999)
    assert h.of(Decision) == []
    h.run(1)

    assert (h.decision.code, h.decision.values["legs_missing"]) == ("entered", SOL)
    assert [leg.symbol for leg in h.engine.hedger.plan.legs if leg.skip] == [SOL]
    assert "decided without SOLUSDT" in h.engine.trade.notes


def test_the_decision_is_taken_as_soon_as_the_last_leg_comes():
    h = started()
    h.bar(legs=(ETH,))
    h.run(500)

    h.send(KlineClosed(h.now, h.kline(SOL, START)))

    assert h.decision.at_ms == h.now
    assert "legs_missing" not in h.decision.values


def test_without_hedge_nobody_is_waited_for():
    h = started(Side.LONG, "hedge.enabled=false")

    h.bar(legs=())

    assert len(h.of(Decision)) == 1


def test_a_bar_that_waits_is_decided_when_the_next_one_comes_first():
    h = started()
    h.send(KlineClosed(h.now, h.kline(BTC, START)))

    h.send(KlineClosed(h.now, h.kline(BTC, START + BASE)))

    assert [d.open_ms for d in h.of(Decision)] == [START]


def test_old_and_repeated_bars_and_other_intervals_decide_nothing():
    h = started()
    h.bar()
    decided = len(h.of(Decision))

    h.send(KlineClosed(h.now, h.kline(BTC, START)))
    h.send(KlineClosed(h.now, h.kline(BTC, START - BASE)))
    h.send(KlineClosed(h.now, h.kline(BTC, START + BASE)._replace(interval_ms=900_000)))
    h.send(KlineClosed(h.now, h.kline(BTC, START + BASE)._replace(symbol="XRPUSDT")))

    assert len(h.of(Decision)) == decided


def test_a_refused_bar_is_told():
    h = started()
    h.rows.rows[BTC, START] = None

    h.bar()

    assert h.decision.code == "no_bar"


@pytest.mark.parametrize(
    ("row", "code", "reason"),
    [
        (quiet_row() | {"ready": 0.0}, "warm_up", "enough bars"),
        (signal_row(Side.LONG) | {"long_conf": 0.0, "long_signal": 0.0}, "no_signal", "BUY_CONF is missing"),
        (signal_row(Side.SHORT) | {"short_signal": 0.0}, "gates", "SHORT: all six hold"),
        (quiet_row(), "no_signal", "3 of six"),
    ],
)
def test_why_there_was_no_trade_is_kept(row, code, reason):
    h = started()

    h.bar(row)

    assert h.decision.code == code
    assert reason in h.decision.reason


@both
def test_the_decision_carries_conditions_evidence_and_plan(side):
    h = started(side)

    h.signal()

    mine, other = (h.decision.long, h.decision.short) if side is Side.LONG else (h.decision.short, h.decision.long)
    assert mine == (True,) * 6
    assert sum(other) == 3
    assert h.decision.signal == side.sign
    values = h.decision.values
    assert values["entry"] == 60_000
    assert values["stop"] == float(h.at(-105))
    assert values["qty"] == 0.714
    assert values["risk_quote"] == pytest.approx(74.97)
    assert 0.1 < values["net_beta"] < 1
    assert 0.5 < values["cost_r"] < 1.2
    (signal,) = [a for a in h.of(Alert) if a.payload]
    assert signal.payload == {
        "symbol": "BINANCE:BTCUSDT",
        "side": side.entry.value,
        "qty": "0.714",
        "sl": str(h.at("-105.00")),
        "tp1": str(h.at("105.00")),
        "trail": "AI_SUPERTREND",
    }


def lose_feed(h: Harness) -> None:
    h.send(FeedLost(h.now, "market"))


def wide(h: Harness) -> None:
    h.instruments[BTC] = replace(INSTRUMENTS[BTC], tick=D("12.5"))


VETOES: dict[str, Any] = {
    "feed_lost": lose_feed,
    "entries_off": lambda h: h.command("stop_entries"),
    "leverage": lambda h: h.send(LeverageSet(h.now, BTC, 5)),
    "funding": lambda h: h.send(Funding(h.now, BTC, D(60_000), D("0.0007") * h.side.sign, START + 8 * 3_600_000)),
    "funding_unknown": lambda h: h.engine.market_state.funding.clear(),
    "beyond_stop": lambda h: h.price.update({BTC: h.at(-106)}),
    "spread": wide,
    "day_loss": lambda h: h.engine.limits.on_equity(h.now, D(9_800), []),
    "soft_stop": lambda h: h.engine.limits.on_equity(h.now, D(9_000), []),
    "direction": lambda h: h.engine.limits.on_trade(h.side, D(-300), h.now, []),
    "venue": lambda h: h.engine.market_state.instruments.update({BTC: replace(INSTRUMENTS[BTC], trading=False)}),
    "unexplained": lambda h: h.send(Fill(h.now, "web_1", ETH, OrderSide.BUY, D(1), D(3000), D(0), False, 900)),
    "min_qty": lambda h: h.engine.market_state.instruments.update({BTC: replace(INSTRUMENTS[BTC], min_qty=D(1))}),
}


@both
@pytest.mark.parametrize("code", sorted(VETOES))
def test_each_veto_refuses_with_its_code_and_values(side, code):
    h = started(side)
    h.price[BTC] = h.at(40)
    VETOES[code](h)

    h.bar(signal_row(side))

    seen = str(h.decision.values.get("vetoes", h.decision.code)).split()
    assert code in seen
    assert h.decision.code == seen[0]
    assert h.decision.signal == side.sign
    assert h.placed("en") == []
    assert h.engine.portfolio.counters["signals"] == 1


def test_more_vetoes_by_configuration_age_and_calendar():
    late = started()
    late.price[BTC] = late.at(40)
    late.run(10_001)
    late.bar(signal_row(Side.LONG))
    assert late.decision.code == "stale"

    event = started(calendar=((START + BASE + 14 * 60_000, "rates", "high"),))
    event.signal()
    assert event.decision.code == "event"

    dear = started(Side.LONG, "strategy.max_cost_r=0.5")
    dear.signal()
    assert dear.decision.code == "cost"

    near = started(Side.LONG, "risk.liquidation_gap_r=30")
    near.signal()
    assert near.decision.code == "liquidation"

    unseen = Harness(venue="live", overrides=("risk.stage=full",)).start()
    unseen.engine.reconciled = False
    unseen.signal()
    assert unseen.decision.code == "not_reconciled"


@pytest.mark.parametrize("side", Side)
def test_liquidation_is_reckoned_from_the_price_that_is_paid(side):
    """A block of 1,000 and an ATR of 500 put R at 1.5 % of the price, and the price has run 1,600 ahead of the plan."""
    h = started(side)
    name = side.name.lower()
    h.price[BTC] = h.at(1_600)

    h.bar(signal_row(side) | {"atr14": 500.0, f"{name}_ob_bottom": 59_500.0, f"{name}_ob_top": 60_500.0})

    assert h.decision.code == "liquidation"
    assert h.engine.trade is None


def test_one_trade_at_a_time():
    h = started().enter()

    h.price[BTC] = h.at(40)
    h.next_bar(signal_row(Side.LONG))

    assert h.decision.code == "trade_open"
    assert len(h.placed("en")) == 1


def test_after_a_trade_the_next_signal_is_taken_again():
    h = started().enter()
    h.move(h.at(-105))
    h.run(500)

    h.price[BTC] = h.at(40)
    h.next_bar(signal_row(Side.LONG))

    assert h.decision.code == "entered"
    assert len({o.client_id.split("-")[3] for o in h.placed("en")}) == 2


def test_leverage_is_set_while_flat_and_asked_again_if_nobody_answers():
    h = Harness()
    h.perform = lambda output: None  # the venue is deaf

    first = h.send(SessionStarted(START, "sim", D(10_000), tuple(INSTRUMENTS.values())))
    soon = h.send(FeedRestored(START + 1_000, "market"))
    again = h.send(FeedRestored(START + 60_000, "market"))

    assert [(o.symbol, o.leverage) for o in first if isinstance(o, SetLeverage)] == [(s, 20) for s in (BTC, ETH, SOL)]
    assert not any(isinstance(o, SetLeverage) for o in soon)
    assert sum(isinstance(o, SetLeverage) for o in again) == 3


@pytest.mark.parametrize(
    ("venue", "leverage", "risk"), [("sim", 20, 0.0075), ("testnet", 5, 0.005), ("live", 5, 0.0075)]
)
def test_the_stage_decides_leverage_and_risk(venue, leverage, risk):
    h = Harness(venue=venue).start()

    h.signal()

    assert {o.leverage for o in h.of(SetLeverage)} == {leverage}
    assert h.decision.code == "entered"
    assert h.decision.values["uncut_qty"] == float(INSTRUMENTS[BTC].qty(D(str(risk * 10_000 / 105))))


def test_operators_words():
    h = started()

    h.command("stop_entries", reason="lunch")
    h.signal()
    assert (h.decision.code, "lunch" in h.decision.reason) == ("entries_off", True)
    h.command("start_entries")
    h.engine.limits.soft_stopped = True
    h.command("arm")
    h.price[BTC] = h.at(40)
    h.next_bar(signal_row(Side.LONG))
    assert h.decision.code == "entered"
    h.run(100)
    h.fill("en", D("0.2"))
    h.run(100)
    h.command("shutdown")
    h.run(2_000)

    assert h.placed("io") == []  # nothing more is taken, what is held is left to its stops
    assert h.position[BTC] == D("0.2")
    assert [o.intent.qty for o in h.live("sl")] == [D("0.2")]
    h.command("arm")
    assert "no soft stop has tripped: nothing to arm" in [a.text for a in h.of(Alert) if a.level == "info"]
    h.command("dance")
    assert any("dance" in a.text for a in h.of(Alert))


# Any order of messages


class Jumbled(Harness):
    """A venue whose messages take ways of different length, come twice, or not at all."""

    draws: list[tuple[int, bool, bool]]
    drawn = 0

    def later(self, delay: int, what: Any) -> None:
        if not isinstance(what, OrderUpdate | Fill | AccountUpdate):
            super().later(delay, what)
            return
        extra, twice, lost = self.draws[self.drawn % len(self.draws)]
        self.drawn += 1
        if lost and not self.silent_fills:
            return
        super().later(delay + extra, what)
        if twice:
            super().later(delay + extra + 130, what)


def jumbled(side: Side, draws: list[tuple[int, bool, bool]]) -> Jumbled:
    h = Jumbled(side)
    h.draws = [(0, False, False)]
    h.start()
    h.draws = draws
    return h


SCRIPT = st.lists(
    st.sampled_from(["fill part", "fill", "up", "target", "stop", "wait", "bar", "flatten"]), min_size=1, max_size=7
)


def play(h: Harness, script: list[str]) -> None:
    """A trade by a script of what the market does; in the end everything is closed."""
    h.signal()
    h.run(60)
    for step in script:
        resting = h.live("en")
        match step:
            case "fill part" if resting and resting[0].intent.qty - resting[0].filled > D("0.2"):
                h.fill("en", D("0.2"))
            case "fill" if resting:
                h.fill("en")
            case "up":
                h.move(h.at(60))
            case "target":
                h.move(h.at(106))
            case "stop":
                h.move(h.at(-106))
            case "bar":
                h.next_bar()
            case "flatten":
                h.command("flatten")
            case _:
                pass
        h.run(350)
    h.command("flatten")
    h.run(120_000)


def ended_well(h: Harness) -> None:
    assert all(not q for q in h.position.values())
    assert not any(o.live for o in h.orders.values())
    assert h.engine.trade is None
    (record,) = h.of(TradeRecord)
    assert record.pnl == h.cash - h.wallet
    assert len(record.fills) == len(h.fills)
    assert h.engine.portfolio.account.wallet == pytest.approx(h.cash, abs=D("0.0000001"))
    assert not h.engine.portfolio.unexplained.qty
    entries = [o for o in h.of(PlaceOrder) if o.client_id[4:6] in ("en", "io")]
    assert sum(h.orders[o.client_id].filled for o in entries if o.client_id in h.orders) <= D("0.714")


@given(
    side=st.sampled_from(Side),
    script=SCRIPT,
    draws=st.lists(
        st.tuples(st.sampled_from([0, 0, 5, 40, 90, 250]), st.booleans(), st.just(False)), min_size=1, max_size=40
    ),
)
def test_late_shuffled_and_repeated_messages_end_in_the_same_books(side, script, draws):
    h = jumbled(side, draws)

    play(h, script)

    ended_well(h)
    assert max(h.naked_longest.values()) <= 1_500 + 2 * 250 + 6 * h.latency


@given(
    side=st.sampled_from(Side),
    script=SCRIPT,
    draws=st.lists(
        st.tuples(st.sampled_from([0, 5, 40, 250]), st.booleans(), st.sampled_from([False, False, False, True])),
        min_size=3,
        max_size=40,
    ),
)
def test_lost_messages_are_made_up_by_reconciliation(side, script, draws):
    h = jumbled(side, draws)

    play(h, script)
    for _ in range(4):  # the look that is taken every half minute
        h.send(h.snapshot())
        h.run(30_000)

    ended_well(h)


@given(side=st.sampled_from(Side), script=SCRIPT)
def test_a_replay_of_the_events_gives_the_same_outputs_and_the_same_state(side, script):
    h = started(side)
    play(h, script)

    engine, batches = replayed(h)

    assert batches == h.batches
    assert engine_view.digest(engine) == engine_view.digest(h.engine)


# Crash, resume, reconciliation


@both
@pytest.mark.parametrize("moment", [30, 110, 125, 145, 300, 720, 760])
def test_after_a_crash_the_replayed_engine_manages_the_trade(side, moment):
    h = started(side)
    h.signal()
    h.run(min(moment, 100))
    if moment > 100:
        h.fill("en", D("0.4"))
        h.run(moment - 100)
    before = engine_view.digest(h.engine)

    engine, _ = replayed(h)
    assert engine_view.digest(engine) == before
    # The messages of the gap are gone, the clock went on, what was asked for just before the crash was never sent.
    h.engine = engine
    h.heap.clear()
    h.timers.clear()
    h.now += 20_000
    h.measure()
    for output in engine.resume():
        h.events.append(h.events[-1])
        h.perform(output)
    h.quotes()
    h.run(30_000)

    held = abs(h.position[BTC])
    if held:
        assert [o.intent.qty for o in h.live("sl")] == [held]
    elif h.engine.trade is not None:
        assert not any(o.live for o in h.orders.values())
    h.command("flatten")
    h.run(30_000)
    assert h.engine.trade is None
    assert all(not q for q in h.position.values())
    assert not any(o.live for o in h.orders.values())


@given(side=st.sampled_from(Side), script=SCRIPT, moment=st.floats(0, 1), gap=st.sampled_from([200, 8_000, 40_000]))
def test_a_crash_at_any_event_of_any_trade_ends_in_order(side, script, moment, gap):
    """What the last event asked for was never sent, what came during the gap was never heard."""
    h = started(side)
    first = len(h.events)
    h.signal()
    crash_at = first + 1 + int(moment * 60)
    alive = h.send

    def send(event: Any) -> list[Any]:
        if len(h.events) < crash_at:
            return alive(event)
        raise StopIteration

    h.send = send
    with suppress(StopIteration):
        play(h, script)
        crash_at = 10**9
    h.send = alive
    if crash_at < 10**9:
        engine, batches = replayed(h)
        assert [o for b in batches for o in b] == h.outputs
        h.engine = engine
        h.heap.clear()
        h.timers.clear()
        h.now += gap
        for output in engine.resume():
            h.perform(output)
    h.quotes()
    for _ in range(4):
        h.run(30_000)
        h.send(h.snapshot())
    h.command("flatten")
    h.run(60_000)

    assert all(not q for q in h.position.values())
    assert not any(o.live for o in h.orders.values())
    assert h.engine.trade is None
    assert not h.engine.portfolio.unexplained.qty
    assert h.engine.portfolio.account.wallet == pytest.approx(h.cash, abs=D("0.0000001"))


def test_resume_sets_the_timers_again_from_absolute_deadlines():
    h = started().enter()
    h.run(60_000)
    engine, _ = replayed(h)

    timers = {o.name: o.delay_ms for o in engine.resume() if isinstance(o, SetTimer)}

    assert timers["trade"] == engine.trade.first_fill_ms + 1_800_000 - engine.now
    assert any(isinstance(o, RequestSnapshot) for o in engine.resume())


def test_a_position_that_nobody_can_explain_is_guarded_and_entries_rest():
    h = started()
    h.position[BTC] = D("0.5")

    h.send(h.snapshot())
    h.run(100)

    (guard,) = h.placed("gd")
    assert (guard.close_position, guard.side, guard.order_type) == (True, OrderSide.SELL, OrderType.STOP_MARKET)
    assert guard.trigger_price < h.price[BTC]
    assert any(a.level == "critical" for a in h.of(Alert))
    h.signal()
    assert h.decision.code == "unexplained"
    # the person closes it by hand
    h.foreign("web_1", OrderSide.SELL, D("0.5"), h.price[BTC])
    h.run(200)
    assert h.live("gd") == []
    assert engine_view.snapshot(h.engine)["unexplained"] == {}


def test_flatten_closes_what_nobody_can_explain_too():
    h = started()
    h.position[ETH] = D(-2)
    h.send(h.snapshot())
    h.run(100)

    h.command("flatten")
    h.run(500)

    assert h.position[ETH] == 0
    assert not any(o.live for o in h.orders.values())


def test_orders_of_ours_that_no_trade_owns_are_cancelled_and_others_left_alone():
    h = started()
    ours = OrderReport(
        "rbS-tp-0-0000009-01-a1", BTC, OrderSide.SELL, OrderType.LIMIT, S.NEW, D(1), D(0), D(0), D(61_000), True, False,
        False, h.now,
    )  # fmt: skip
    theirs = replace(ours, client_id="web_7")
    live = replace(ours, client_id="rbL-tp-0-0000009-01-a1")

    batch = h.send(AccountSnapshot(h.now, D(10_000), (), (ours, theirs, live)))

    assert [o.client_id for o in batch if isinstance(o, CancelOrder)] == [ours.client_id]


def test_a_stop_that_the_exchange_lost_is_put_back_by_the_snapshot():
    h = started().enter()
    (stop,) = h.live("sl")
    stop.status = S.CANCELED  # and nobody says so
    h.measure()
    h.run(3_000)

    h.send(h.snapshot())
    h.run(100)

    assert [o.intent.qty for o in h.live("sl")] == [D("0.714")]


def test_fills_from_before_the_session_are_not_ours():
    h = started()
    old = Fill(START - 1, "web_1", BTC, OrderSide.BUY, D(1), D(60_000), D(0), False, 5)

    h.send(AccountSnapshot(h.now, D(10_000), (), (), (old,)))

    assert h.engine.portfolio.ledger.qty(BTC) == 0
    assert h.engine.portfolio.unexplained.qty == {}


def test_what_somebody_else_sold_is_taken_off_the_trade_once_trades_and_position_agree():
    h = started().enter()
    h.run(10_000)

    h.foreign("web_1", OrderSide.SELL, D("0.4"), h.price[BTC])
    at_once = h.engine.trade.bracket.held
    h.run(100)

    assert at_once == D("0.714")
    assert h.engine.trade.bracket.held == D("0.314")
    assert [o.intent.qty for o in h.live("sl")] == [D("0.314")]


def test_a_position_read_alone_never_makes_a_position_smaller():
    h = started().enter()
    h.run(10_000)
    h.position[BTC] = D("0.314")  # 0.4 went away and nothing explains it

    for _ in range(20):
        h.send(h.snapshot())
        h.run(3_000)

    assert h.engine.trade.bracket.held == D("0.714")
    assert [o.intent.qty for o in h.live("sl")] == [D("0.714")]
    assert engine_view.snapshot(h.engine)["suspects"] == {BTC: "-0.400"}
    assert sum("contradicts itself" in a.text for a in h.of(Alert)) == 1


def test_a_wallet_is_taken_from_the_exchange_when_its_bookings_explain_it_and_a_transfer_is_no_result():
    h = started()
    before = h.engine.limits.day_r
    h.cash = D(12_000)
    h.booking("TRANSFER", D(2_000))

    h.send(h.snapshot())
    h.run(100)

    assert h.engine.portfolio.account.equity == D(12_000)
    assert h.engine.limits.day_r == before
    assert any("the wallet changed by 2000" in a.text for a in h.of(Alert))


def test_a_wallet_that_nothing_explains_is_not_taken_and_entries_rest_until_a_person_says_so():
    h = started()
    h.send(h.snapshot())
    h.cash = D(0)

    for _ in range(5):
        h.send(h.snapshot())
        h.run(3_000)
    held_back = h.engine.portfolio.account.equity
    h.next_bar(signal_row(Side.LONG))
    refused = h.decision.code
    h.command("start_entries")
    h.send(h.snapshot())

    assert held_back == D(10_000)
    assert refused in ("contradiction", "wallet")
    assert sum("contradicts itself" in a.text for a in h.of(Alert)) == 1
    assert h.engine.portfolio.account.equity == 0


def test_an_order_declared_absent_that_appears_after_all_is_cancelled():
    h = started()
    h.behave["en"] = [-2013]
    h.signal()
    h.run(200)
    (maker,) = h.placed("en")

    batch = h.send(OrderUpdate(h.now, maker.client_id, BTC, S.NEW, maker.side, maker.qty, D(0), D(0)))

    assert [o.client_id for o in batch if isinstance(o, CancelOrder)] == [maker.client_id]
    # and if it fills before it can be cancelled, the position is guarded
    h.position[BTC] = D("0.1")
    h.trade_id += 1
    h.send(Fill(h.now, maker.client_id, BTC, maker.side, D("0.1"), D(60_000), D(0), True, h.trade_id))
    h.run(100)
    assert len(h.placed("gd")) == 1


@both
def test_protection_acts_on_an_update_that_promises_a_fill_and_the_fill_is_fetched(side):
    h = started(side)
    h.silent_fills = True
    h.signal()
    h.run(100)

    h.fill("en")
    h.run(100)
    assert [o.intent.qty for o in h.live("sl")] == [D("0.714")]
    assert h.engine.trade.bracket.held == 0
    assert h.engine.trade.stage is Stage.PENDING
    h.run(2_100)  # the promised fill is overdue: a snapshot brings it

    assert h.engine.trade.bracket.held == D("0.714")
    assert h.engine.trade.stage is Stage.OPEN


def test_a_closeposition_order_that_exists_already_is_believed_for_half_a_minute():
    """It may be a person's take-profit, and it may go again: ours is tried until it stands."""
    h = started()
    h.behave["gd"] = [-4130] * 4
    h.position[BTC] = D("-0.5")

    h.send(h.snapshot())
    h.run(25_000)
    assert len(h.placed("gd")) == 4
    assert not h.live("gd")
    h.run(10_000)

    assert len(h.placed("gd")) == 5
    assert h.live("gd")
    assert h.engine.portfolio.unexplained.qty == {BTC: D("-0.5")}


@pytest.mark.parametrize(("code", "guards", "exits"), [(-1001, 2, 0), (-2021, 1, 1)])
def test_a_refused_guard_is_tried_again_and_a_passed_one_closes(code, guards, exits):
    h = started()
    h.behave["gd"] = [code]
    h.position[BTC] = D("-0.5")

    h.send(h.snapshot())
    h.run(5_000)

    assert (len(h.placed("gd")), len(h.placed("xx"))) == (guards, exits)
    assert (h.position[BTC] == 0) is bool(exits)


def test_a_guard_that_fills_ends_the_stray():
    h = started()
    h.position[BTC] = D("0.5")
    h.send(h.snapshot())
    h.run(100)

    h.move(D(58_000))
    h.run(300)

    assert h.position[BTC] == 0
    assert h.engine.portfolio.unexplained.qty == {}
    assert not any(o.live for o in h.orders.values())


def test_a_second_session_keeps_an_open_trade_and_believes_no_wallet_that_nothing_explains():
    h = started().enter()
    again = SessionStarted(h.now, "sim", D(5_000), tuple(INSTRUMENTS.values()))

    h.send(again)
    assert h.engine.trade is not None
    assert h.engine.portfolio.account.equity > 9_000
    h.command("flatten")
    h.run(500)
    h.send(again)

    assert h.engine.portfolio.account.equity > 9_000


def test_gaps_in_the_closes_are_filled_as_the_features_fill_them_and_a_long_one_forgets():
    h = started(Side.LONG, "data.max_gap_bars=2")
    series = h.engine.market_state.series[ETH]
    before = series.closes[START - BASE]
    h.price[ETH] = D(3_100)

    h.send(KlineClosed(h.now, h.kline(ETH, START + 2 * BASE)))
    assert [series.closes[START + i * BASE] for i in range(3)] == [before, before, 3_100.0]
    h.send(KlineClosed(h.now, h.kline(ETH, START + 6 * BASE)))

    assert list(series.closes) == [START + 6 * BASE]


def test_an_order_of_ours_that_is_not_in_the_book_asks_for_a_look():
    h = started()

    batch = h.send(OrderUpdate(h.now, "rbS-tp-0-0000009-01-a1", BTC, S.NEW, OrderSide.SELL, D(1), D(0), D(0)))
    other = h.send(OrderUpdate(h.now, "web_9", BTC, S.NEW, OrderSide.SELL, D(1), D(0), D(0)))

    assert any(isinstance(o, RequestSnapshot) for o in batch)
    assert other == []


# Rules and views


def test_a_message_that_contradicts_what_was_sent_changes_nothing_and_is_reported_once():
    h = started().enter()
    maker = h.placed("en")[0]
    held = h.engine.trade.bracket.held

    for number in (77, 78):
        h.send(Fill(h.now, maker.client_id, BTC, OrderSide.SELL, D(1), D(1), D(0), False, number))
    h.run(500)

    assert h.engine.trade.bracket.held == held
    assert sum("contradicts what was sent" in a.text for a in h.of(Alert)) == 1


def test_an_unknown_venue_is_refused():
    with pytest.raises(InvariantError):
        Engine(config_of(), Rows(), venue="moon")


@both
def test_the_snapshot_is_plain_json_at_every_moment_of_a_trade(side):
    h = Harness(side)
    seen = []

    def look() -> None:
        seen.append(json.loads(json.dumps(engine_view.snapshot(h.engine), allow_nan=False)))

    look()
    h.start()
    look()
    h.signal()
    look()
    h.run(100)
    h.fill("en", D("0.3"))
    look()
    h.run(1_000)
    look()
    h.move(h.at(150))
    h.run(500)
    look()
    h.command("flatten")
    h.run(500)
    look()

    assert [bool(s["trade"]) for s in seen] == [False, False, True, True, True, True, False]
    assert seen[4]["trade"]["r"] != 0
    assert seen[-1]["counters"]["trades"] == 1
    json.dumps(h.engine.memory())
    assert pickle.loads(pickle.dumps(seen)) == seen


def test_quotes_are_wanted_only_while_something_is_open():
    h = started()
    assert not h.engine.wants_quotes

    h.enter()
    assert h.engine.wants_quotes
    h.command("flatten")
    h.run(500)

    assert not h.engine.wants_quotes


def test_a_deposit_after_losses_does_not_let_more_be_lost():
    h = started()
    h.bar()
    unit = h.engine.limits.day_unit

    def book(amount, reason):
        h.cash += amount
        h.send(AccountUpdate(h.now, reason, h.cash, amount, ()))
        h.bar()

    book(-2 * unit, "INSURANCE_CLEAR")
    book(D(1_000), "DEPOSIT")
    limits = h.engine.limits
    assert limits.day_r == pytest.approx(-2)
    assert not limits.day_hit
    book(-unit, "INSURANCE_CLEAR")
    assert limits.day_hit


def test_without_money_entries_rest_with_a_sentence_until_a_deposit():
    h = started()

    def transfer(amount, reason):
        h.cash += amount
        h.send(AccountUpdate(h.now, reason, h.cash, amount, ()))

    transfer(-h.cash, "WITHDRAW")
    h.signal()
    assert h.decision.code == "no_money"
    assert engine_view.snapshot(h.engine)["limits"]["no_money"] == h.decision.reason
    assert h.decision.reason == "no USDT in the futures wallet: entries rest until there is some"
    assert h.placed("en") == []
    assert [a.text for a in h.of(Alert)].count(h.decision.reason) == 1
    h.command("arm")

    transfer(D(10_000), "DEPOSIT")
    h.signal()
    assert h.engine.limits.day_r == 0
    assert h.decision.code == "entered"


def test_limits_outlive_the_session():
    h = started()
    h.engine.limits.on_equity(h.now, D(9_000), [])
    memory = json.loads(json.dumps(h.engine.memory()))

    engine = Engine(config_of(), Rows(), venue="sim", memory=memory)
    engine.handle(SessionStarted(START, "sim", D(9_000), tuple(INSTRUMENTS.values())))

    assert engine.limits.soft_stopped
    assert engine.limits.peak == D(10_000)
    assert PositionReport(BTC, D(0), D(0)).qty == 0


def test_an_exit_that_finds_the_position_gone_is_a_warning_and_ends_with_the_snapshot():
    h = started().enter()
    h.silent_fills = h.lost_updates = True  # stopped out while nobody listened: only a snapshot tells
    h.move(h.at(-200))
    h.run(100)
    h.silent_fills = h.lost_updates = h.snapshots = False

    h.command("flatten")
    h.run(100)
    h.snapshots = True  # slower than the refusal
    h.run(10_000)

    refused = [a for a in h.of(Alert) if f"{BTC} market exit refused: -2022" in a.text]
    assert refused
    assert {a.level for a in refused} == {"warning"}
    assert h.engine.portfolio.ledger.qty(BTC) == 0


@pytest.mark.parametrize(
    ("code", "first"), [(-2022, "warning"), (-2013, "warning"), (-2011, "warning"), (-2019, "critical")]
)
def test_an_exit_that_goes_on_being_refused_with_a_position_there_is_critical(code, first):
    h = started().enter()
    h.behave[f"xx:{BTC}"] = [code] * 6

    h.command("flatten")
    h.run(10_000)

    refused = [a.level for a in h.of(Alert) if f"{BTC} market exit refused" in a.text]
    assert refused[0] == first
    assert refused[3:] == ["critical"] * 3
    assert h.position[BTC] == 0
