"""The life of a trade: every way out, for both sides, against a venue that keeps its own truth."""

import math
from decimal import Decimal as D

import pytest

from bot.core.errors import InvariantError
from bot.core.intents import Alert, CancelOrder, PlaceOrder, RequestSnapshot
from bot.core.records import NakedSpell
from bot.core.types import OrderSide, OrderStatus, OrderType, Side, TimeInForce
from bot.strategy.rules import break_even, scale_out
from bot.strategy.trade import Stage
from tests.engine_harness import BTC, ETH, INSTRUMENTS, SOL, Harness, quiet_row, started

S = OrderStatus
both = pytest.mark.parametrize("side", Side)


def trend_row(side: Side, level: D | float, agrees: bool = True) -> dict[str, float]:
    """A bar on which SuperTrend AI points with or against the trade at `level`."""
    return quiet_row() | {"sta_os": float((side is Side.LONG) is agrees), "sta_ts": float(level)}


def finished(h: Harness) -> None:
    """What holds after every trade: flat, nothing alive, money equal to the venue's."""
    assert all(not q for q in h.position.values())
    assert not any(o.live for o in h.orders.values())
    assert h.engine.trade is None
    assert h.engine.portfolio.account.wallet == pytest.approx(h.cash, abs=D("0.0000001"))
    record = h.record
    assert record.pnl == h.cash - h.wallet
    assert record.pnl == record.alpha_pnl + record.hedge_pnl - record.fees - record.funding
    assert sum(f.qty for f in record.fills if f.symbol == BTC and f.side == h.side.entry) == record.qty
    assert record.r_multiple == pytest.approx(float(record.pnl / record.risk_quote))
    assert record.naked_ms >= max(h.naked_longest.values())
    assert not h.engine.portfolio.ledger.orders


@pytest.mark.parametrize(
    ("qty", "first", "second"),
    [
        ("0.714", "0.214", "0.214"),
        ("0.010", "0.003", "0.003"),
        ("0.003", "0.001", "0"),  # 0.0009 rounds to nothing: one lot, the second is left out
        ("0.002", "0.001", "0"),
        ("0.001", "0", "0"),
    ],
)
def test_target_parts_are_lots_and_the_first_takes_one_if_there_are_two(qty, first, second):
    config = started(Side.LONG).engine.config.trade

    assert scale_out(D(qty), INSTRUMENTS[BTC], config) == (D(first), D(second))


@pytest.mark.parametrize(
    ("side", "mode", "fee", "expected"),
    [
        (Side.LONG, "net", "0.0002", "60036.00"),  # 60,000 * (1 + 0.0002 + 0.0004)
        (Side.SHORT, "net", "0.0002", "59964.00"),
        (Side.LONG, "net", "0.0004", "60048.00"),
        (Side.LONG, "entry", "0.0004", "60000"),
    ],
)
def test_break_even_by_hand(side, mode, fee, expected):
    assert break_even(side, D(60_000), entry_fee_rate=D(fee), taker_fee=D("0.0004"), mode=mode) == D(expected)


@both
def test_protection_comes_first_and_covers_what_filled(side):
    h = started(side)
    h.signal()
    h.run(100)

    h.fill("en", D("0.3"))
    h.run(20)

    first = [o for batch in h.batches for o in batch if isinstance(o, PlaceOrder)][1]
    assert (first.order_type, first.side, first.qty) == (OrderType.STOP_MARKET, side.exit, D("0.3"))
    assert (first.trigger_price, first.reduce_only, first.close_position) == (h.at(-105), True, False)
    (far,) = h.placed("cs")
    assert (far.close_position, far.trigger_price, far.qty) == (True, h.at("-262.5"), 0)
    assert h.placed("tp") == []


@both
def test_the_stop_is_resized_on_every_fill_and_the_old_one_goes_when_the_new_one_stands(side):
    h = started(side)
    h.signal()
    h.run(100)

    for qty in ("0.3", "0.2", "0.214"):
        h.fill("en", D(qty))
        h.run(25)
        assert sum(o.intent.qty for o in h.live("sl")) >= abs(h.position[BTC]) - D(qty)
        h.run(100)
        assert [o.intent.qty for o in h.live("sl")] == [abs(h.position[BTC])]

    assert [o.qty for o in h.placed("sl")] == [D("0.3"), D("0.5"), D("0.714")]
    assert h.naked_longest[BTC] == 2 * h.latency  # the fill's way here and the stop's way there
    assert len(h.placed("cs")) == 1


@both
def test_stops_are_never_below_the_position_while_orders_change(side):
    h = started(side).enter()

    h.move(h.at(106))
    for _ in range(10):
        h.run(10)
        assert sum(o.intent.qty for o in h.live("sl")) >= abs(h.position[BTC])

    assert [o.intent.qty for o in h.live("sl")] == [D("0.500")]


@both
def test_targets_rest_reduce_only_once_the_entry_is_complete(side):
    h = started(side).enter()

    first, second = h.placed("tp")
    assert (first.price, first.qty) == (h.at(105), D("0.214"))
    assert (second.price, second.qty) == (h.at("157.5"), D("0.214"))
    for order in (first, second):
        assert (order.side, order.reduce_only, order.time_in_force) == (side.exit, True, TimeInForce.GTC)


@both
def test_stopped_out_loses_one_r_and_costs(side):
    h = started(side).enter()

    h.move(h.at(-105))
    h.run(500)

    finished(h)
    assert h.record.exit_reason == "stop"
    assert h.record.alpha_r == pytest.approx(-1)
    assert h.record.max_adverse_r == 0  # no bar closed meanwhile
    assert h.engine.portfolio.counters["trades"] == 1


@both
def test_a_gap_through_both_stops_is_sorted_out(side):
    h = started(side).enter()

    h.move(h.at(-400))
    h.run(500)

    finished(h)
    assert h.record.exit_reason == "stop"
    assert h.record.alpha_r == pytest.approx(-400 / 105)


@both
def test_stop_moves_to_break_even_only_after_the_whole_of_tp1_is_filled(side):
    h = started(side).enter()

    h.fill("tp", D("0.1"))
    h.run(200)
    assert h.engine.trade.bracket.stop == h.at(-105)
    assert [o.intent.qty for o in h.live("sl")] == [D("0.614")]
    h.price[BTC] = h.at(105)
    h.fill("tp")
    h.run(200)

    (stop,) = h.live("sl")
    assert (stop.intent.trigger_price, stop.intent.qty) == (h.at(36), D("0.500"))
    assert h.engine.trade.stage is Stage.SCALED
    h.move(h.at(36))
    h.run(500)
    finished(h)
    assert h.record.exit_reason == "break_even"


@both
def test_both_targets_and_the_trail(side):
    h = started(side).enter()
    h.next_bar(trend_row(side, h.at(-50)))
    h.run(200)
    assert h.engine.trade.bracket.stop == h.at(-105)  # the trail begins with TP1

    h.move(h.at(158))
    h.run(500)
    assert h.engine.trade.stage is Stage.RUNNER
    h.next_bar(trend_row(side, h.at("80.04")))
    h.run(200)
    (stop,) = h.live("sl")
    assert stop.intent.trigger_price == h.at("80.1")  # toward profit
    h.next_bar(trend_row(side, h.at(60)))  # never loosens
    h.run(200)
    assert h.live("sl") == [stop]
    h.move(h.at(80))
    h.run(500)

    finished(h)
    assert h.record.exit_reason == "trail"
    assert h.record.max_favourable_r == pytest.approx(158 / 105)


@both
@pytest.mark.parametrize("trail_from", ["tp1", "entry", "tp2"])
def test_the_trail_begins_where_it_is_set_to(side, trail_from):
    h = started(side, f"trade.trail_from={trail_from}").enter()
    moved = []

    for price, level in ((40, -60), (106, 50), (158, 90)):
        h.move(h.at(price))
        h.run(500)
        h.next_bar(trend_row(side, h.at(level)))
        h.run(300)
        moved.append(h.engine.trade.bracket.stop_kind == "trail")

    assert moved == {"entry": [True, True, True], "tp1": [False, True, True], "tp2": [False, False, True]}[trail_from]


@both
@pytest.mark.parametrize(("mode", "exits"), [("exit", True), ("ignore", False)])
def test_a_flip_against_the_runner_exits_if_it_is_set_to(side, mode, exits):
    h = started(side, f"trade.trail_flip={mode}").enter()
    h.move(h.at(106))
    h.run(500)

    h.next_bar(trend_row(side, h.at(50)))
    h.run(200)
    h.next_bar(trend_row(side, h.at(200), agrees=False))
    h.run(500)

    assert (h.engine.trade is None) is exits
    if exits:
        finished(h)
        assert h.record.exit_reason == "trail_flip"


@both
def test_a_direction_that_is_not_known_is_no_flip(side):
    """After a long gap the indicators begin anew: no level and direction 0 until they are warm, and the first one is no flip."""
    h = started(side, "trade.timeout_minutes=600").enter()
    h.move(h.at(106))
    h.run(500)
    h.next_bar(trend_row(side, h.at(-50)))
    h.run(200)

    for _ in range(3):
        h.next_bar(quiet_row() | {"sta_os": 0.0, "sta_ts": math.nan})
        h.run(500)
    h.next_bar(trend_row(side, h.at(400), agrees=False))
    h.run(500)

    assert h.engine.trade is not None


@both
def test_a_flip_before_the_trail_does_not_exit(side):
    h = started(side).enter()

    h.next_bar(trend_row(side, h.at(200), agrees=False))
    h.run(500)

    assert h.engine.trade.stage is Stage.OPEN


@both
@pytest.mark.parametrize(
    ("source", "row", "exits"),
    [
        ("pac", {"pac_event": 2.0, "pac_dir": -1.0}, True),
        ("pac", {"pac_event": 3.0, "pac_dir": -1.0}, True),
        ("pac", {"pac_event": 1.0, "pac_dir": -1.0}, False),  # a BOS
        ("pac", {"pac_event": 2.0, "pac_dir": 1.0}, False),  # in our direction
        ("pac", {"smc": 1.0}, False),
        ("smc", {"smc": 1.0}, True),
        ("smc", {"pac_event": 2.0, "pac_dir": -1.0}, False),
        ("either", {"smc": 1.0}, True),
        ("either", {"pac_event": 2.0, "pac_dir": -1.0}, True),
    ],
)
def test_an_opposite_choch_exits_at_market(side, source, row, exits):
    h = started(side, f"trade.choch_source={source}").enter()
    row = dict(row)
    if "pac_dir" in row:
        row["pac_dir"] *= side.sign
    if row.pop("smc", None):
        row["smc_int_bear_choch" if side is Side.LONG else "smc_int_bull_choch"] = 1.0

    h.next_bar(quiet_row() | row)
    h.run(500)

    assert (h.engine.trade is None) is exits
    if exits:
        finished(h)
        assert h.record.exit_reason == "choch"


@both
def test_a_choch_on_a_bar_before_the_first_fill_is_old_news(side):
    h = started(side)
    h.signal()
    h.run(100)
    h.next_bar(quiet_row() | {"pac_event": 2.0, "pac_dir": -float(side.sign)})

    assert all("choch" not in o.exit_reason for o in h.outputs if hasattr(o, "exit_reason"))


@both
def test_thirty_minutes_after_the_first_fill_the_whole_position_leaves(side):
    h = started(side).enter()
    opened = h.engine.trade.first_fill_ms

    for _ in range(9):
        h.next_bar()
    h.run(opened + 1_800_000 - h.now - 1)
    assert h.engine.trade.bracket.exit_reason == ""
    h.run(500)

    finished(h)
    assert h.record.exit_reason == "time"
    assert h.record.closed_ms - opened < 1_800_200


def test_with_timeout_runner_off_the_runner_lives_on_its_trail_but_an_unscaled_trade_does_not():
    h = started(Side.LONG, "trade.timeout_runner=false").enter()
    h.move(h.at(106))
    h.run(2_000_000)
    assert h.engine.trade.stage is Stage.SCALED

    other = started(Side.LONG, "trade.timeout_runner=false").enter()
    other.run(2_000_000)
    assert other.record.exit_reason == "time"


@both
@pytest.mark.parametrize("how", ["silent", "unknown", -1001])
def test_a_position_without_an_accepted_stop_is_closed_1500_ms_after_its_fill(side, how):
    h = started(side)
    h.behave["sl"] = how if how != -1001 else [-1001] * 20
    h.behave["cs"] = how if how != -1001 else [-1001] * 20
    if how == "unknown":
        h.lost_updates = False

    h.signal()
    h.run(100)
    h.fill("en")
    filled = h.now
    h.run(1_499)
    assert h.position[BTC] != 0
    h.run(200)

    assert h.position[BTC] == 0
    (leave,) = h.placed("xx")
    assert (leave.order_type, leave.side, leave.reduce_only) == (OrderType.MARKET, side.exit, True)
    assert any("naked" in a.text for a in h.of(Alert))
    last = max(f.at_ms for f in h.fills if f.symbol == BTC)
    assert last - filled <= 1_500 + 2 * h.latency
    h.run(30_000)
    assert h.record.exit_reason == "naked"
    assert h.record.naked_ms >= 1_500


@both
@pytest.mark.parametrize("count", [1, 20])
def test_a_stop_that_is_only_said_to_rest_is_no_stop(side, count):
    h = started(side)
    h.behave[f"sl:{BTC}"] = ["false"] * count
    h.signal()
    h.run(100)

    h.fill("en")
    h.run(1_700)

    assert h.naked_longest[BTC] <= 1_500 + 2 * h.latency
    if count == 1:
        assert [o.intent.qty for o in h.live("sl")] == [D("0.714")]
        assert h.placed("xx") == []
    else:
        assert h.position[BTC] == 0
        assert len(h.placed("sl")) <= 5
    assert sum("cannot be found" in a.text for a in h.of(Alert)) == 1
    h.run(30_000)
    assert max(spell.ms for spell in h.of(NakedSpell) if spell.symbol == BTC) >= min(300 * count, 1_500)


@both
def test_an_older_stop_goes_only_when_two_messages_say_that_the_new_one_rests(side):
    h = started(side).enter()
    (old,) = h.live("sl")
    h.behave[f"sl:{BTC}"] = ["false"] * 3

    h.fill("tp")
    h.run(1_000)

    assert old.live
    h.run(5_000)
    (new,) = h.live("sl")
    assert new is not old
    assert new.intent.qty == abs(h.position[BTC])
    assert len(h.placed("sl")) == 5
    assert h.naked_longest[BTC] <= 2 * h.latency


@both
@pytest.mark.parametrize("code", [-2021, -4142])
def test_a_stop_that_would_trigger_at_once_becomes_a_market_exit(side, code):
    h = started(side)
    h.behave["sl"] = [code]
    h.signal()
    h.run(100)

    h.fill("en")
    h.run(300)

    finished(h)
    assert h.record.exit_reason == "stop_passed"
    assert h.record.naked_ms <= 200


@both
def test_a_stop_refused_for_another_reason_is_tried_again_with_a_new_attempt(side):
    h = started(side)
    h.behave[f"sl:{BTC}"] = [-1001, -1008]

    h.enter()
    h.run(500)

    assert len(h.placed("sl")) == 3
    assert [o.intent.qty for o in h.live("sl")] == [D("0.714")]
    assert h.placed("xx") == []


@both
def test_a_stop_that_vanishes_is_put_back(side):
    h = started(side).enter()
    (stop,) = h.live("sl")

    stop.status = S.CANCELED
    h.tell(stop)
    h.measure()
    h.run(100)

    assert [o.intent.qty for o in h.live("sl")] == [D("0.714")]
    assert any("went away" in a.text for a in h.of(Alert))


@both
def test_a_new_stop_that_the_price_has_passed_is_a_market_exit(side):
    """The trail jumps beyond the price between two looks: the exchange refuses it, the position leaves."""
    h = started(side).enter()
    h.move(h.at(106))
    h.run(500)

    h.price[BTC] = h.at(60)
    h.next_bar(trend_row(side, h.at(61)))
    h.run(500)

    finished(h)
    assert h.record.exit_reason == "stop_passed"


@both
def test_a_stop_that_fills_in_part_and_expires_is_finished_at_market(side):
    h = started(side).enter()
    (stop,) = h.live("sl")

    stop.status = S.TRIGGERED
    h.tell(stop)
    h.execute(stop, D("0.2"), h.at(-105), maker=False)
    stop.status = S.EXPIRED
    h.tell(stop)
    h.run(500)

    finished(h)
    assert h.record.exit_reason == "stop"
    assert {f.role for f in h.record.fills if f.symbol == BTC} == {"en", "sl", "xx"}


@both
def test_a_triggered_stop_that_does_not_fill_gets_help(side):
    h = started(side).enter()
    (stop,) = h.live("sl")

    stop.status = S.TRIGGERED
    h.tell(stop)
    h.run(1_400)
    assert h.placed("xx") == []
    h.run(300)
    assert len(h.placed("xx")) == 1
    assert h.position[BTC] == 0


@both
def test_a_market_exit_that_is_refused_is_sent_again_with_growing_pauses(side):
    h = started(side).enter()
    h.behave[f"xx:{BTC}"] = [-2022, -1001, -1001]

    h.command("flatten")
    h.run(2_000)

    finished(h)
    assert len(h.placed("xx")) == 4
    assert any(isinstance(o, RequestSnapshot) and "-2022" in o.reason for o in h.outputs)


@both
def test_a_target_refused_as_reduce_only_is_tried_again_and_then_given_up(side):
    h = started(side)
    h.behave["tp"] = [-2022] * 8

    h.enter()
    h.run(10_000)

    assert len(h.placed("tp")) == 8
    assert sum("given up" in a.text for a in h.of(Alert)) == 2
    h.move(h.at(106))
    h.next_bar(trend_row(side, h.at(-50)))
    h.run(200)
    assert h.engine.trade.bracket.stop_kind == "break_even"  # its level still counts


@both
def test_a_position_too_small_for_a_first_target_goes_to_break_even_at_its_level(side):
    h = started(side, "trade.tp1_fraction=0.0").enter()

    assert [o.qty for o in h.placed("tp")] == [D("0.214")]
    h.move(h.at(104))
    h.next_bar()
    assert h.engine.trade.stage is Stage.OPEN
    h.move(h.at(106))
    h.next_bar()
    h.run(200)

    assert h.engine.trade.bracket.stop == h.at(36)


@both
def test_both_targets_of_a_position_without_a_runner_end_the_trade(side):
    h = started(side, "trade.tp1_fraction=0.5", "trade.tp2_fraction=0.5").enter()

    h.move(h.at(158))
    h.run(500)

    finished(h)
    assert h.record.exit_reason == "targets"


@both
def test_a_stop_hit_while_the_entry_still_works_ends_the_entry(side):
    h = started(side)
    h.signal()
    h.run(100)
    h.fill("en", D("0.3"))
    h.run(100)
    h.behave["en"] = None

    h.move(h.at(-105))  # the rest of the maker order fills on the way down, the stop for 0.3 triggers
    h.run(1_500)

    finished(h)
    assert h.record.exit_reason == "stop"
    assert h.placed("io") == []


@both
def test_flatten_closes_everything_and_cancels_all(side):
    h = started(side).enter()

    h.command("flatten")
    h.run(300)

    finished(h)
    assert h.record.exit_reason == "flatten"
    h.next_bar()
    assert h.engine.entries_off == "flatten"


@both
def test_flatten_during_the_entry_takes_nothing_more(side):
    h = started(side)
    h.signal()
    h.run(100)
    h.fill("en", D("0.2"))

    h.command("flatten", reason="end_of_data")
    h.run(500)

    finished(h)
    assert h.record.exit_reason == "end_of_data"
    assert h.record.qty == D("0.2")
    assert h.placed("io") == []


@both
def test_funding_is_booked_to_the_trade(side):
    from bot.core.events import AccountUpdate

    h = started(side).enter()

    h.cash -= D("4.2")
    for _ in range(2):  # told twice
        h.send(AccountUpdate(h.now, "FUNDING_FEE", h.cash, D("-4.2"), ()))
    h.command("flatten")
    h.run(300)

    finished(h)
    assert h.record.funding == D("4.2")


@both
@pytest.mark.parametrize(
    ("name", "reason"), [("web_manual", "external"), ("autoclose-99", "liquidation"), ("adl_autoclose", "adl")]
)
def test_a_position_closed_by_somebody_else_ends_the_trade(side, name, reason):
    h = started(side).enter()

    h.foreign(name, side.exit, abs(h.position[BTC]), h.at(-50))
    h.run(500)

    finished(h)
    assert h.record.exit_reason == reason
    assert "fx" in {f.role for f in h.record.fills}
    assert any(a.level == "critical" for a in h.of(Alert))


def test_slippage_of_stops_and_exits_is_measured_against_trigger_and_best_price():
    h = started(Side.LONG).enter()
    legs = len(h.engine.limits.slippages)

    h.move(h.at(-111))  # 6 beyond the trigger
    h.run(500)

    assert h.engine.limits.slippages[legs] == pytest.approx(6 / 59_895)


def test_a_stage_that_is_not_in_the_table_raises_and_changes_nothing():
    trade = started(Side.LONG).enter().engine.trade

    with pytest.raises(InvariantError):
        trade._to(Stage.PENDING)

    assert trade.stage is Stage.OPEN


def test_ids_are_unique_and_every_cancel_names_an_order_that_was_placed():
    h = started(Side.SHORT).enter()
    h.move(h.at(158))
    h.run(500)
    h.move(h.at(30))
    h.run(500)

    ids = [o.client_id for o in h.of(PlaceOrder)]
    assert len(ids) == len(set(ids))
    assert {c.client_id for c in h.of(CancelOrder)} <= set(ids)
    assert {f.symbol for f in h.record.fills} == {BTC, ETH, SOL}
    assert all(isinstance(OrderSide(f.side), OrderSide) for f in h.record.fills)
