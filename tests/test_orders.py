"""Ids, the ledger, the entry machine and the bracket, each against its own rules."""

import re
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.errors import ContradictingMessage, InvariantError
from bot.core.events import Fill, OrderUpdate
from bot.core.intents import CancelOrder, PlaceOrder
from bot.core.types import OrderSide, OrderStatus, OrderType, Quote, Side, TimeInForce
from bot.orders.ids import ENVIRONMENTS, ROLES, ClientId, IdMaker, base36, parse, role_of
from bot.orders.maker_taker import PHASES, Phase, capped_qty, maker_price, taker_limit
from bot.orders.state import TRANSITIONS, Holding, Ledger, Retry
from bot.strategy.trade import STAGES, Stage
from tests.engine_harness import BTC, INSTRUMENTS, signal_row, started

INSTRUMENT = INSTRUMENTS[BTC]
S = OrderStatus


# Ids


@given(
    st.sampled_from(sorted(ENVIRONMENTS.values())),
    st.sampled_from(sorted(ROLES)),
    st.integers(0, 9),
    st.integers(0, 36**7 - 1),
    st.integers(0, 99),
    st.integers(1, 9999),
)
def test_an_id_says_what_it_is_for_and_fits_the_exchange(environment, role, symbol, sequence, leg, attempt):
    parts = ClientId(environment, role, symbol, sequence, leg, attempt)

    assert parse(str(parts)) == parts
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,36}", str(parts))


@given(st.text(max_size=40))
def test_somebody_elses_id_is_foreign(text):
    if parse(text) is None:
        assert role_of(text) == "fx"


@pytest.mark.parametrize(
    "text", ["autoclose-17", "adl_autoclose", "web_3f", "x-Cb7ytekJ1", "rbL-zz-0-00k3f9x-01-a1", ""]
)
def test_ids_of_the_exchange_and_other_programs_are_not_ours(text):
    assert parse(text) is None


def test_attempts_count_up_per_role_symbol_and_leg():
    ids = IdMaker("S", 1)

    made = [ids.next("tp", 0, leg=1), ids.next("tp", 0, leg=2), ids.next("tp", 0, leg=1), ids.next("sl", 1)]

    assert [m[4:] for m in made] == [
        "tp-0-0000001-01-a1",
        "tp-0-0000001-02-a1",
        "tp-0-0000001-01-a2",
        "sl-1-0000001-01-a1",
    ]
    with pytest.raises(InvariantError):
        base36(36**7)
    with pytest.raises(InvariantError):
        ids.next("zz", 0)


# Tables


@pytest.mark.parametrize("table", [TRANSITIONS, PHASES, STAGES])
def test_tables_name_every_state_and_terminal_states_have_no_way_out(table):
    kind = type(next(iter(table)))

    assert set(table) == set(kind)
    assert all(target in table for targets in table.values() for target in targets)
    assert all(state not in targets for state, targets in table.items())
    ends = {state for state, targets in table.items() if not targets}
    assert ends == {OrderStatus: {s for s in S if s.is_terminal}, Phase: {Phase.DONE}, Stage: {Stage.CLOSED}}[kind]


# Ledger


def placed(qty: str = "1", role: str = "en", side: OrderSide = OrderSide.BUY, **more) -> tuple[Ledger, str]:
    ledger, client_id = Ledger(), f"rbS-{role}-0-0000001-01-a1"
    ledger.place(
        client_id,
        BTC,
        side=side,
        order_type=more.pop("order_type", OrderType.LIMIT),
        qty=D(qty),
        role=role,
        now=0,
        out=[],
        **more,
    )
    return ledger, client_id


def update(client_id: str, status: OrderStatus, filled: str = "0", at_ms: int = 1, **more) -> OrderUpdate:
    values = {"symbol": BTC, "side": OrderSide.BUY, "qty": D(1), "average_price": D(0)} | more
    return OrderUpdate(at_ms, client_id, status=status, filled_qty=D(filled), **values)


def fill(client_id: str, qty: str, trade_id: int, side: OrderSide = OrderSide.BUY, price: str = "100") -> Fill:
    return Fill(trade_id, client_id, BTC, side, D(qty), D(price), D("0.01"), True, trade_id)


def test_a_status_never_goes_back_and_filled_never_falls():
    ledger, i = placed()

    for said in (
        update(i, S.NEW),
        update(i, S.PARTIALLY_FILLED, "0.4"),
        update(i, S.NEW),
        update(i, S.UNKNOWN),
        update(i, S.CANCELED, "0.4"),
        update(i, S.PARTIALLY_FILLED, "0.2"),
        update(i, S.FILLED, "0.4"),
    ):
        ledger.update(said)

    order = ledger.orders[i]
    assert (order.status, order.filled, order.missing, order.settled) == (S.CANCELED, D("0.4"), D("0.4"), False)
    ledger.fill(fill(i, "0.4", 1))
    assert order.settled


LIFE = [
    ("u", S.NEW, "0"),
    ("u", S.PARTIALLY_FILLED, "0.3"),
    ("u", S.PARTIALLY_FILLED, "0.7"),
    ("u", S.CANCELED, "0.7"),
    ("f", "0.3", 1),
    ("f", "0.4", 2),
]


@given(st.permutations(LIFE + LIFE[1:5]))
def test_whatever_order_messages_come_in_and_however_often_the_book_ends_the_same(messages):
    ledger, i = placed()

    for kind, a, b in messages:
        if kind == "u":
            ledger.update(update(i, a, b))
        else:
            ledger.fill(fill(i, a, b))

    order = ledger.orders[i]
    assert (order.status, order.filled, order.known, order.missing) == (S.CANCELED, D("0.7"), D("0.7"), 0)
    assert ledger.qty(BTC) == D("0.7")
    assert order.average == 100


@pytest.mark.parametrize(
    "wrong",
    [
        lambda i: update(i, S.NEW, symbol="ETHUSDT"),
        lambda i: update(i, S.NEW, side=OrderSide.SELL),
        lambda i: update(i, S.FILLED, "1.1"),
        lambda i: fill(i, "0.1", 9, OrderSide.SELL),
        lambda i: fill(i, "1.1", 9),
        lambda i: fill(i, "0", 9),
    ],
)
def test_what_contradicts_the_order_raises_and_changes_nothing(wrong):
    ledger, i = placed()
    ledger.update(update(i, S.NEW))
    before = deepcopy(ledger)
    event = wrong(i)

    with pytest.raises(ContradictingMessage):
        ledger.fill(event) if isinstance(event, Fill) else ledger.update(event)

    assert ledger == before


def test_there_is_never_a_second_working_entry_nor_an_id_twice():
    ledger, _ = placed()
    before = deepcopy(ledger)

    for client_id, role in (("rbS-io-0-0000001-01-a1", "io"), ("rbS-en-0-0000001-01-a1", "tp")):
        with pytest.raises(InvariantError):
            ledger.place(
                client_id, BTC, side=OrderSide.BUY, order_type=OrderType.LIMIT, qty=D(1), role=role, now=0, out=[]
            )

    assert ledger == before


def test_a_cancel_is_repeated_only_after_a_while_and_a_triggered_stop_is_cancelled_as_a_regular_order():
    ledger, i = placed(role="sl", side=OrderSide.SELL, order_type=OrderType.STOP_MARKET, trigger=D(90))
    out: list[CancelOrder] = []
    order = ledger.orders[i]

    ledger.cancel(order, 1, out)
    assert out == []  # not accepted yet
    ledger.update(update(i, S.NEW, side=OrderSide.SELL))
    for now in (10, 11, 2_009, 2_010):
        ledger.cancel(order, now, out)
    ledger.update(update(i, S.TRIGGERED, side=OrderSide.SELL))
    ledger.cancel(order, 9_000, out)

    assert [c.algo for c in out] == [True, True, False]
    assert ledger.deadlines() == [11_000]


@given(st.lists(st.tuples(st.integers(-9, 9).filter(bool), st.integers(90, 110)), max_size=20))
def test_a_holding_costs_its_average_and_flat_costs_nothing(trades):
    """Twin: a list of units, each with its price; closing takes the average."""
    holding, units = Holding(), []

    for qty, price in trades:
        holding.add(D(qty), D(price), D(0))
        for _ in range(abs(qty)):
            sign = 1 if qty > 0 else -1
            if units and units[0][0] != sign:
                average = sum(p for _, p in units) / len(units)
                units = [(-sign, average)] * (len(units) - 1)
            else:
                units.append((sign, float(price)))

    assert holding.qty == sum(s for s, _ in units)
    assert float(holding.cost) == pytest.approx(sum(s * p for s, p in units), abs=1e-9)


def test_pauses_between_attempts_grow_and_end_with_success():
    retry = Retry()

    pauses = []
    for _ in range(7):
        retry.failed(1_000)
        pauses.append(retry.not_before_ms - 1_000)
    retry.worked()

    assert pauses == [0, 200, 400, 800, 1_600, 5_000, 5_000]
    assert retry == Retry()


# Entry


def quote(bid: str, ask: str) -> Quote:
    return Quote(D(bid), D(1), D(ask), D(1))


@pytest.mark.parametrize(
    ("side", "bid", "ask", "price"),
    [
        (Side.LONG, "60040", "60040.1", "60000"),
        (Side.LONG, "59990", "59990.1", "59990"),
        (Side.SHORT, "59960", "59960.1", "60000"),
        (Side.SHORT, "60010", "60010.1", "60010.1"),
    ],
)
def test_the_maker_price_always_rests(side, bid, ask, price):
    assert maker_price(side, D(60_000), quote(bid, ask), INSTRUMENT) == D(price)


@pytest.mark.parametrize(
    ("side", "limit"),
    [(Side.LONG, "60076.1"), (Side.SHORT, "60004.0")],  # 60,040.1 * 1.0006 = 60,076.124; 60,040 * 0.9994 = 60,003.976
)
def test_the_taker_limit_allows_the_slippage_and_not_a_tick_more(side, limit):
    assert taker_limit(side, quote("60040", "60040.1"), 0.0006, INSTRUMENT) == D(limit)


def test_chasing_never_raises_the_risk_by_hand():
    """Risk 74.97, stop 59,895. Nothing filled, limit 60,076.1: 74.97 / 181.1 = 0.4139: 0.413.

    With 0.3 filled at 60,000 (31.5 used): 43.47 / 181.1 = 0.240.
    """
    base = {
        "risk_quote": D("74.97"),
        "stop": D(59_895),
        "limit": D("60076.1"),
        "side": Side.LONG,
        "instrument": INSTRUMENT,
    }

    assert capped_qty(D("0.714"), filled=D(0), average=D(0), **base) == D("0.413")
    assert capped_qty(D("0.414"), filled=D("0.3"), average=D(60_000), **base) == D("0.240")
    assert capped_qty(D("0.1"), filled=D("0.3"), average=D(60_000), **base) == D("0.1")
    assert capped_qty(D(1), filled=D(0), average=D(0), **(base | {"limit": D(59_895)})) == 0


@given(
    rest=st.decimals("0.001", 2, places=3),
    filled=st.decimals(0, 1, places=3),
    average=st.integers(59_900, 60_100),
    limit=st.integers(59_800, 60_500),
    side=st.sampled_from(Side),
)
def test_filled_and_chased_together_risk_no_more_than_planned(rest, filled, average, limit, side):
    mirror = (lambda p: D(p)) if side is Side.LONG else (lambda p: D(120_000 - p))
    stop, risk = mirror(59_895), D("74.97")

    qty = capped_qty(
        rest,
        risk_quote=risk,
        filled=filled,
        average=mirror(average),
        stop=stop,
        limit=mirror(limit),
        side=side,
        instrument=INSTRUMENT,
    )

    assert 0 <= qty <= rest
    already = filled * side.sign * (mirror(average) - stop)
    if qty:
        assert already + qty * side.sign * (mirror(limit) - stop) <= risk


@pytest.mark.parametrize("side", Side)
def test_the_maker_order_rests_post_only_and_lives_for_700_ms(side):
    h = started(side)
    h.signal()

    (maker,) = h.placed("en")
    assert (maker.side, maker.price, maker.qty) == (side.entry, D("60000.00"), D("0.714"))
    assert (maker.order_type, maker.time_in_force, maker.reduce_only) == (OrderType.LIMIT, TimeInForce.GTX, False)
    h.run(699)
    assert h.of(CancelOrder) == []
    h.run(1)
    assert [c.client_id for c in h.of(CancelOrder)] == [maker.client_id]
    assert h.placed("io") == []


@pytest.mark.parametrize("side", Side)
def test_the_rest_is_taken_only_when_the_cancels_outcome_is_known(side):
    h = started(side)
    h.signal()
    h.run(100)
    h.fill("en", D("0.3"))
    h.run(615)
    assert h.placed("io") == []

    h.run(30)

    (taker,) = h.placed("io")
    far = h.book(BTC)[1] if side is Side.LONG else h.book(BTC)[0]
    limit = taker_limit(side, Quote(far, D(1), far, D(1)), 0.0006, INSTRUMENT)
    distance = side.sign * (limit - h.at(-105))
    assert (taker.time_in_force, taker.price) == (TimeInForce.IOC, limit)
    assert taker.qty == INSTRUMENT.qty((D("74.97") - D("0.3") * 105) / distance)
    h.run(200)
    held = D("0.3") + taker.qty
    assert side.sign * h.position[BTC] == held
    assert [o.intent.qty for o in h.live("sl")] == [held]
    assert h.naked_longest[BTC] <= 100


@pytest.mark.parametrize("side", Side)
def test_a_fill_during_the_cancel_is_not_bought_again(side):
    h = started(side)
    h.signal()
    h.run(705)  # the cancel is on its way
    h.fill("en")

    h.run(500)

    assert h.placed("io") == []
    assert side.sign * h.position[BTC] == D("0.714")
    assert h.engine.trade.stage is Stage.OPEN


@pytest.mark.parametrize("side", Side)
def test_a_post_only_refusal_is_repriced_once_at_the_new_best_price_and_then_taken(side):
    h = started(side)
    h.price[BTC] = h.at(40)
    h.behave["en"] = [-5022, -5022]
    h.bar(signal_row(side))
    h.price[BTC] = h.at(-10)  # the market came through the entry: the best price of our side is new

    h.run(30)
    assert len(h.placed("en")) == 1
    h.quotes()
    h.run(300)

    first, second = h.placed("en")
    assert first.price == D("60000.00")
    assert second.price == (h.book(BTC)[0] if side is Side.LONG else h.book(BTC)[1])
    assert len(h.placed("io")) == 1


@pytest.mark.parametrize("side", Side)
def test_a_post_only_order_is_not_repriced_at_or_beyond_its_own_stop(side):
    h = started(side)
    h.price[BTC] = h.at(40)
    h.behave["en"] = [-5022]
    h.bar(signal_row(side))
    h.price[BTC] = h.at(-106)  # through the stop at 105

    h.run(30)
    h.quotes()
    h.run(1_500)

    assert len(h.placed("en")) == 1
    assert h.placed("io") == []
    assert h.record.exit_reason == "beyond_stop"
    assert h.position[BTC] == 0


@pytest.mark.parametrize("side", Side)
def test_a_fill_far_beyond_the_block_is_measured_by_the_smallest_distance_that_the_plan_allows(side):
    h = started(side)
    h.signal()
    h.run(100)
    h.fill("en", price=h.at(-104))  # one away from the stop
    h.run(300)

    assert h.engine.trade.risk_unit == D(45)  # 0.75 ATR14 beyond the block's edge


def test_the_older_form_of_the_refusal_is_repriced_too():
    h = started(Side.LONG)
    h.signal()
    h.run(100)
    (order,) = h.live("en")

    order.status = S.EXPIRED
    h.tell(order)
    h.run(100)

    assert len(h.placed("en")) == 2


def test_an_unknown_outcome_is_waited_for_and_nothing_is_sent_beside_it():
    h = started(Side.LONG)
    h.behave["en"] = "unknown"
    h.signal()

    h.run(5_000)
    assert len(h.of(PlaceOrder)) == 1
    assert h.of(CancelOrder) == []
    (order,) = h.live("en")
    h.tell(order)  # the query found it resting
    h.run(300)

    assert [c.client_id for c in h.of(CancelOrder)] == [order.intent.client_id]
    assert len(h.placed("io")) == 1


def test_a_maker_order_refused_for_good_ends_the_setup_with_the_reason():
    h = started(Side.LONG)
    h.behave["en"] = -2019

    h.signal()
    h.run(200)

    assert h.record.fills == ()
    assert h.record.exit_reason == "maker_refused"
    assert any("-2019" in note for note in h.record.notes)
    assert h.engine.trade is None


def test_max_chase_gives_up_with_the_reason():
    h = started(Side.LONG, "entry.max_chase_r=0.35")

    h.signal()  # 40.1 above the entry: 0.38 R
    h.run(1_500)

    assert h.placed("io") == []
    assert h.record.exit_reason == "chase"
    assert h.position[BTC] == 0


@pytest.mark.parametrize("side", Side)
def test_a_price_beyond_the_stop_is_not_chased(side):
    h = started(side)
    h.signal()
    h.run(100)
    (order,) = h.live("en")
    order.status = S.CANCELED  # gone without a fill, and the price falls through the stop
    h.price[BTC] = h.at(-110)
    h.quotes()

    h.tell(order)
    h.run(300)

    assert h.placed("io") == []
    assert h.record.exit_reason == "beyond_stop"


def test_a_taker_order_that_fills_nothing_ends_the_setup():
    h = started(Side.LONG)
    h.behave["io"] = ("part", D(0))

    h.signal()
    h.run(1_500)

    assert len(h.placed("io")) == 1
    assert h.record.exit_reason == "not_filled"
    assert h.record.qty == 0


@pytest.mark.parametrize("side", Side)
def test_what_fills_below_the_minimum_is_closed_at_once(side):
    strict = INSTRUMENTS | {BTC: replace(INSTRUMENT, min_notional=D(100))}
    h = started(side, instruments=strict)
    h.behave["io"] = ("part", D(0))
    h.signal()
    h.run(100)

    h.fill("en", D("0.001"))
    h.run(2_000)

    assert h.record.exit_reason == "below_minimum"
    assert (h.record.qty, h.position[BTC]) == (D("0.001"), 0)
    assert h.placed("hx", "ETHUSDT") == []
    assert h.placed("tp") == []
