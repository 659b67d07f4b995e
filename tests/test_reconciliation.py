"""What the engine believes, and when: restarts, reads that lag, answers that do not come, streams that are lost."""

from dataclasses import replace
from decimal import Decimal as D

import pytest

from bot.core.events import (
    AccountSnapshot,
    AccountUpdate,
    FeedLost,
    FeedRestored,
    KlineClosed,
    SessionStarted,
)
from bot.core.intents import Alert, CancelOrder, LookUp, PlaceOrder, RequestSnapshot
from bot.core.records import Decision, NakedSpell, TradeRecord
from bot.core.types import OrderReport, OrderSide, OrderStatus, OrderType, PositionReport, Side
from bot.engine import Engine
from bot.engine import view as engine_view
from bot.orders import reconcile
from bot.orders.state import Ledger
from tests.builders import fill
from tests.engine_harness import (
    BASE,
    BTC,
    ETH,
    INSTRUMENTS,
    SOL,
    Rows,
    config_of,
    leg_row,
    quiet_row,
    signal_row,
    started,
)

S = OrderStatus
both = pytest.mark.parametrize("side", Side)


def restarted(h, *, away_ms: int = 20_000):
    """The same account after a kill: a fresh engine that has handled what the journal holds; what was under way is lost."""
    engine = Engine(config_of(*h.overrides), h.rows, venue=h.venue)
    for event in h.events:
        engine.handle(event)
    h.engine = engine
    h.heap.clear()
    h.timers.clear()
    h.batches.clear()
    h.now += away_ms
    return h


def entered_with_silent(role):
    """A bot whose entry has filled and whose order of this role nobody answers."""
    h = started(venue="testnet")
    h.behave[role] = "silent"
    h.signal()
    h.run(100)
    h.fill("en")
    h.run(30)
    return h


def test_after_a_restart_nothing_is_done_with_an_open_trade_before_the_account_has_been_looked_at():
    h = started(venue="testnet", latency=20)
    h.signal()
    h.run(100)
    h.fill("en")
    h.run(45)  # the stops are accepted, and the process ends before it hears that
    assert h.live("sl")
    restarted(h)

    h.send(SessionStarted(h.now, "testnet", D(10_000), tuple(INSTRUMENTS.values())))
    held_back = list(h.outputs)
    h.send(h.snapshot())
    h.run(5_000)

    assert not [o for o in held_back if isinstance(o, PlaceOrder | CancelOrder)]
    assert not h.placed("xx")
    assert [o.intent.qty for o in h.live("sl")] == [abs(h.position[BTC])]
    assert h.engine.trade.bracket.naked_ms <= 2 * h.latency  # from fill to acceptance, not to the restart


def test_a_question_that_died_with_its_process_is_asked_again_at_once():
    h = entered_with_silent("cs")

    for _ in range(2):  # the second process dies before it has heard an answer, well before it would ask again
        restarted(h, away_ms=300)
        h.send(SessionStarted(h.now, "testnet", D(10_000), tuple(INSTRUMENTS.values())))
        h.send(h.snapshot())
        h.send(SessionStarted(h.now, "testnet", D(10_000), tuple(INSTRUMENTS.values())))  # the rest of the same start
        h.send(h.snapshot())

        assert [o.client_id.split("-")[1] for o in h.of(LookUp)].count("cs") == 1


def test_a_position_that_was_really_bare_over_a_restart_is_closed_by_the_rule():
    h = entered_with_silent("sl")
    restarted(h)
    h.behave.clear()

    h.send(SessionStarted(h.now, "testnet", D(10_000), tuple(INSTRUMENTS.values())))
    h.send(h.snapshot())
    h.run(5_000)

    assert h.position[BTC] == 0
    assert any("naked" in a.text for a in h.of(Alert))


def test_a_read_that_lags_behind_the_stream_is_not_believed():
    h = started().enter()
    h.run(2_500)
    held = h.engine.trade.bracket.held
    stale = replace(h.snapshot(), positions=(), orders=(), fills=())

    h.send(replace(stale, at_ms=h.now))
    h.snapshots = False
    h.run(1_000)
    h.send(replace(stale, at_ms=h.now))

    assert h.engine.trade.bracket.held == held
    assert not h.of(CancelOrder, "sl")
    assert h.live("sl")
    assert engine_view.snapshot(h.engine)["suspects"][BTC] == str(-held)


def test_the_exchanges_own_times_tell_an_old_position_from_a_new_one():
    ledger = Ledger()
    ledger.fill(fill(qty="0.010", at_ms=1_000_000))
    old = PositionReport(BTC, D("0.004"), D(60_000), update_ms=900_000)
    new = replace(old, update_ms=1_000_500)

    def believed(report, *, after_ms, traded=True):
        snapshot = AccountSnapshot(1_010_000 + after_ms, D(1), (report,), ())
        return reconcile.believable(ledger, snapshot, BTC, since_ms=1_010_000, traded=traded)

    assert not believed(new, after_ms=0)
    assert believed(new, after_ms=2_000)
    assert believed(new, after_ms=0, traded=False)
    assert not believed(old, after_ms=5_000)
    assert believed(old, after_ms=10_000)  # no clock is trusted for ever


def test_a_position_that_is_not_listed_is_believed_gone_when_no_read_can_lag_behind_its_fill():
    ledger = Ledger()
    ledger.fill(fill(qty="0.010", at_ms=1_000_000))

    def believed(at_ms, *, since_ms, traded=True):
        snapshot = AccountSnapshot(at_ms, D(1), (), ())
        return reconcile.believable(ledger, snapshot, BTC, since_ms=since_ms, traded=traded)

    assert not believed(1_004_500, since_ms=1_002_100)
    assert not believed(1_009_900, since_ms=1_002_100, traded=False)
    assert not believed(1_010_000, since_ms=1_008_500)
    assert believed(1_010_000, since_ms=1_008_000)
    assert believed(1_010_000, since_ms=1_010_000, traded=False)


def test_an_order_that_is_not_listed_is_asked_after_and_never_declared_dead_by_absence():
    h = started().enter()
    h.run(10_000)
    (stop,) = h.live("sl")
    listed = h.snapshot()
    without = replace(listed, orders=tuple(o for o in listed.orders if o.client_id != stop.intent.client_id))

    h.send(without)
    asked = [o for o in h.of(LookUp) if o.client_id == stop.intent.client_id]
    h.run(1_000)

    assert [(o.algo, o.accepted) for o in asked] == [(True, True)]
    assert [o.intent.client_id for o in h.live("sl")] == [stop.intent.client_id]
    assert len(h.placed("sl")) == 1


@both
def test_a_stop_that_nobody_answers_is_joined_by_a_second_one_within_the_naked_limit(side):
    h = started(side)
    h.behave["sl"] = ["silent"]
    h.signal()
    h.run(100)
    h.fill("en")
    h.run(2_000)

    assert len(h.placed("sl")) == 2
    assert not h.placed("xx")
    (spell,) = [s for s in h.of(NakedSpell) if s.symbol == BTC]
    assert h.naked_longest[BTC] <= 500 + 4 * h.latency
    assert spell.ms == pytest.approx(h.naked_longest[BTC], abs=h.latency)
    assert (spell.role, spell.trade_id) == ("alpha", h.engine.trade.trade_id)


def test_two_stops_that_are_both_accepted_in_the_end_leave_one():
    h = started()
    h.behave["sl"] = ["unknown"]
    h.signal()
    h.run(100)
    h.fill("en")
    h.run(700)
    first = next(o for c, o in h.orders.items() if "-sl-0-" in c)
    both_there = len(h.live("sl"))
    h.tell(first)
    h.run(1_000)

    assert both_there == 2
    assert len(h.live("sl")) == 1


def test_a_market_exit_that_nobody_answers_is_joined_by_a_second_one_and_no_third():
    h = started().enter()
    h.behave["xx"] = ["silent", "silent"]
    h.snapshots = False

    h.command("flatten")
    h.run(4_000)

    assert len(h.placed("xx")) == 2


def test_a_closeposition_stop_refused_because_one_exists_is_tried_again_until_it_stands():
    h = started()
    h.behave["cs"] = [-4130, -4130]
    h.signal()
    h.run(100)
    h.fill("en")
    h.run(5_000)

    assert len(h.placed("cs")) == 3
    assert len(h.live("cs")) == 1
    assert sum("catastrophe" in a.text for a in h.of(Alert)) == 1


def test_a_lost_user_stream_asks_for_the_account_at_once_and_every_two_seconds_while_something_is_open():
    h = started().enter()
    before = len(h.of(RequestSnapshot))

    h.send(FeedLost(h.now, "user", "silent"))
    at_once = len(h.of(RequestSnapshot)) - before
    h.run(9_000)
    while_lost = len(h.of(RequestSnapshot)) - before
    h.send(FeedRestored(h.now, "user"))
    h.run(20_000)

    assert at_once == 1
    assert 4 <= while_lost <= 6
    assert len(h.of(RequestSnapshot)) - before == while_lost + 1
    assert not h.engine.market_state.lost


def test_a_new_session_does_not_inherit_lost_streams_nor_the_end_of_the_last_process():
    h = started()
    h.send(FeedLost(h.now, "market", "gone"))
    h.command("shutdown")
    refused = h.next_bar(signal_row(Side.LONG))

    h.send(SessionStarted(h.now, "sim", D(10_000), tuple(INSTRUMENTS.values())))
    h.next_bar(signal_row(Side.LONG))

    assert next(o for o in refused if isinstance(o, Decision)).code == "entries_off"
    assert h.decision.code == "entered"


def test_a_position_that_the_account_message_tells_and_no_fill_explains_is_looked_into():
    h = started().enter()
    h.run(5_000)
    before = len(h.of(RequestSnapshot))
    update = AccountUpdate(h.now, "ORDER", D(10_000), D(0), (PositionReport(BTC, D("0.3"), D(60_000)),))

    h.send(update)
    h.run(1_900)
    early = len(h.of(RequestSnapshot)) - before
    h.run(500)

    assert early == 0
    assert any(f"nobody else reports {BTC}" in o.reason for o in h.of(RequestSnapshot))
    assert any("an account update reported 0.3" in a.text for a in h.of(Alert))
    assert h.live("sl")


def test_flatten_closes_cancels_everything_even_strangers_orders_and_says_when_the_exchange_confirms_it():
    h = started().enter()
    strange = PlaceOrder("web_abc", ETH, OrderSide.SELL, OrderType.LIMIT, D(1), D(3_500))
    h.perform(strange)
    h.run(100)

    h.command("flatten")
    h.run(10_000)

    assert not any(h.position.values())
    assert not any(o.live for o in h.orders.values())
    assert any("everything is closed and cancelled" in a.text for a in h.of(Alert))
    assert not h.engine.portfolio.flatten_ms


def test_a_flatten_that_does_not_get_there_is_told_again_and_again():
    h = started().enter()
    h.behave["xx"] = [-1001] * 1_000

    h.command("flatten")
    h.run(70_000)

    told = [a.text for a in h.of(Alert) if a.text.startswith("not flat")]
    assert 2 <= len(told) <= 3
    assert BTC in told[0]
    assert h.live("sl")  # what protects stays until it is flat


@pytest.mark.parametrize("code", [-2015, -1022, -4061])
def test_a_refusal_of_the_account_itself_stops_entries_and_is_told_once(code):
    h = started()
    h.behave["en"] = [code, code]

    h.signal()
    h.run(1_000)
    h.next_bar(signal_row(Side.LONG))

    assert h.decision.code == "entries_off"
    assert sum(a.level == "critical" for a in h.of(Alert)) == 1


def test_an_order_declared_absent_after_it_had_been_accepted_is_over():
    h = started().enter()
    (target,) = [o for o in h.live("tp") if o.intent.client_id.endswith("01-a1")]
    h.orders.pop(target.intent.client_id)
    h.run(10_000)

    h.send(h.snapshot())
    h.run(12_000)

    order = h.engine.portfolio.ledger.find(target.intent.client_id)
    assert (order.status, order.code) == (S.EXPIRED, -2013)
    assert len(h.live("tp")) == 2  # and was put back


def test_orphans_that_protect_a_position_under_suspicion_stay():
    h = started()
    h.position[BTC] = D("0.5")
    stop = OrderReport(
        "rbS-sl-0-0000001-01-a1", BTC, OrderSide.SELL, OrderType.STOP_MARKET, S.NEW, D("0.5"), D(0), D(0), D(59_000),
        True, False, True, h.now,
    )  # fmt: skip
    snapshot = h.snapshot()

    h.send(replace(snapshot, orders=(stop,)))

    assert not h.of(CancelOrder)
    assert h.engine.portfolio.unexplained.qty == {BTC: D("0.5")}


# Memory


def test_the_days_limits_and_the_operators_stop_outlive_the_session():
    h = started()
    h.command("stop_entries", reason="by hand")
    h.engine.limits.on_trade(Side.LONG, D(-300), h.now, [])
    memory = h.engine.memory()

    engine = Engine(config_of(), Rows(), venue="sim", memory=memory)
    engine.handle(SessionStarted(h.now, "sim", D(9_700), tuple(INSTRUMENTS.values())))

    assert engine.limits.broken == {"LONG": True}
    assert engine.limits.results["LONG"] == D(-300)
    assert engine.entries_off == "by hand"
    assert engine.memory()["day"] == memory["day"]


# Early bars


class Peeking(Rows):
    """Rows that can be looked at before they are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.early = {}
        self.stepped = []

    def step(self, event):
        self.stepped.append(event.kline.symbol)
        return super().step(event)

    def peek(self, event):
        return self.early.get((event.kline.symbol, event.kline.open_ms), quiet_row())


def early_bars(h, row, *, close=None):
    """All three bars of the instant, closed by the clock."""
    open_ms = h.open_ms
    for symbol in (ETH, SOL, BTC):
        h.rows.early[symbol, open_ms] = row if symbol == BTC else leg_row(symbol)
        bar = h.kline(symbol, open_ms)
        if close is not None and symbol == BTC:
            bar = bar._replace(close=close, high=max(bar.high, close), low=min(bar.low, close))
        if symbol == BTC:
            h.quotes()
        h.send(KlineClosed(h.now, bar, early=True))


def early_harness():
    h = started()
    rows = Peeking()
    h.rows = h.engine.features = rows
    h.price[BTC] = h.at(40)
    return h


def test_an_early_bar_is_decided_on_a_copy_and_the_confirmed_one_steps_the_true_state_without_a_second_entry():
    h = early_harness()

    early_bars(h, signal_row(Side.LONG))
    entered = len(h.placed("en"))
    untouched = list(h.rows.stepped)
    h.run(1_900)
    h.bar(signal_row(Side.LONG))
    h.run(100)

    decisions = [d for d in h.of(Decision) if d.open_ms == h.open_ms - BASE]
    assert (entered, len(h.placed("en"))) == (1, 1)
    assert untouched == []
    assert h.rows.stepped == [ETH, SOL, BTC]
    assert [d.code for d in decisions] == ["entered"]
    assert decisions[0].values["early"] == f"{BTC} {ETH} {SOL}"
    assert h.engine.portfolio.counters["early_bars"] == 3
    assert "early_bars_differ" not in h.engine.portfolio.counters


def test_a_confirmed_bar_that_differs_is_counted_and_marked_on_the_decision():
    h = early_harness()

    early_bars(h, quiet_row(), close=60_013.0)
    h.run(2_000)
    h.bar(signal_row(Side.LONG))

    first, marked = [d for d in h.of(Decision) if d.open_ms == h.open_ms - BASE]
    assert first.code == marked.code == "no_signal"
    assert "close 60013.0 was 60040.0" in marked.values["early_differs"]
    assert "signal was 1" in marked.values["early_differs"]
    assert h.engine.portfolio.counters["early_signals_differ"] == 1
    assert not h.placed("en")  # one decision a bar


def test_without_an_early_bar_the_confirmed_one_decides():
    h = early_harness()

    h.bar(signal_row(Side.LONG))

    assert h.decision.code == "entered"
    assert "early" not in h.decision.values


def test_a_replay_with_early_bars_gives_the_same_state():
    h = early_harness()
    early_bars(h, signal_row(Side.LONG))
    h.run(2_000)
    h.bar(quiet_row())
    h.run(5_000)

    engine = Engine(config_of(), h.rows, venue="sim")
    outputs = [o for event in h.events for o in engine.handle(event)]

    assert engine_view.digest(engine) == engine_view.digest(h.engine)
    assert outputs == h.outputs


# Naked time


def test_every_naked_spell_of_position_and_legs_is_told():
    h = started().enter()
    h.run(1_000)

    spells = {s.symbol: s for s in h.of(NakedSpell)}

    assert set(spells) == {BTC, ETH, SOL}
    assert {s: x.role for s, x in spells.items()} == {BTC: "alpha", ETH: "leg", SOL: "leg"}
    assert all(0 < x.ms <= 2 * h.latency + 1 for x in spells.values())
    h.command("flatten")
    h.run(5_000)
    assert h.of(TradeRecord)[0].naked_ms == max(s.ms for s in h.of(NakedSpell))
