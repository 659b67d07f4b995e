"""The book: tables of orders against ticks, and laws that hold whatever comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.sim.errors import Refused
from bot.sim.matching import UNBOUNDED, BookReport, OrderBook
from bot.sim.orders import Tick, VenueOrder


class Desk:
    """A book whose position follows its fills."""

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self.reports: list[BookReport] = []
        self.book = OrderBook(self.room, self.report)
        self._next = 0
        self.book.quote(1000, 50, ask=1001, ask_lots=50)
        self.book.last = 1000

    def room(self, order: VenueOrder) -> int:
        if not order.reduce_only:
            return UNBOUNDED
        return abs(self.position) if self.position * order.sign < 0 else 0

    def report(self, report: BookReport) -> None:
        self.reports.append(report)
        if report.kind == "TRADE":
            self.position += report.order.sign * report.lots

    def order(self, side: str, lots: int, price: int = 0, tif: str = "GTC", *, reduce: bool = False) -> VenueOrder:
        self._next += 1
        kind = "LIMIT" if price else "MARKET"
        order = VenueOrder(self._next, f"c{self._next}", "X", side == "BUY", kind, tif, lots, price, reduce, 0)
        self.book.submit(order)
        return order

    def tick(self, price: int, lots: int = 1000, *, seller: bool | None = None, depth: int = 50) -> None:
        seller = price < self.book.last if seller is None else seller
        self.book.tick(Tick(0, price, lots, seller, price, depth, price + 1, depth))

    def kinds(self) -> list[tuple[str, int, int, int]]:
        return [(r.kind, r.order.order_id, r.price, r.lots) for r in self.reports]


TAKING = [
    # side, lots, price, tif -> status, er, filled, at
    ("BUY", 30, 1001, "IOC", "FILLED", "0", 30, 1001),
    ("BUY", 80, 1001, "IOC", "EXPIRED", "2", 50, 1001),
    ("BUY", 30, 1000, "IOC", "EXPIRED", "2", 0, 0),
    ("BUY", 30, 1005, "IOC", "FILLED", "0", 30, 1001),
    ("BUY", 30, 1005, "FOK", "FILLED", "0", 30, 1001),
    ("BUY", 80, 1005, "GTC", "PARTIALLY_FILLED", "0", 50, 1001),
    ("SELL", 30, 1000, "IOC", "FILLED", "0", 30, 1000),
    ("SELL", 80, 995, "IOC", "EXPIRED", "2", 50, 1000),
    ("SELL", 30, 0, "GTC", "FILLED", "0", 30, 1000),
    ("BUY", 80, 0, "GTC", "PARTIALLY_FILLED", "0", 50, 1001),
]


@pytest.mark.parametrize(("side", "lots", "price", "tif", "status", "er", "filled", "at"), TAKING)
def test_a_taker_gets_at_most_the_level_and_never_a_worse_price(side, lots, price, tif, status, er, filled, at):
    desk = Desk()

    order = desk.order(side, lots, price, tif)

    assert (order.status, order.er, order.filled) == (status, er, filled)
    assert {r.price for r in desk.reports if r.kind == "TRADE"} == ({at} if filled else set())
    assert not any(r.maker for r in desk.reports)


@pytest.mark.parametrize(("side", "price"), [("BUY", 1001), ("BUY", 1002), ("SELL", 1000), ("SELL", 999)])
def test_a_post_only_order_that_would_take_is_refused_and_leaves_nothing(side, price):
    desk = Desk()

    with pytest.raises(Refused, match="-5022"):
        desk.order(side, 10, price, "GTX")

    assert desk.reports == []
    assert desk.book.resting == []


def test_a_fill_or_kill_that_the_level_cannot_fill_is_refused():
    with pytest.raises(Refused, match="-5021"):
        Desk().order("BUY", 51, 1005, "FOK")


RESTING = [
    # side, price, tick price, tick lots, seller -> filled
    ("BUY", 999, 998, 1000, True, 20),  # through
    ("BUY", 999, 998, 7, True, 7),  # through, but not more than was traded
    ("BUY", 999, 999, 1000, True, 20),  # at the price, the queue of 50 has gone
    ("BUY", 999, 999, 55, True, 5),  # at the price, five are left behind the queue
    ("BUY", 999, 999, 50, True, 0),  # only the queue
    ("BUY", 999, 999, 1000, False, 0),  # at the price, but the aggressor bought
    ("BUY", 999, 1000, 1000, True, 0),
    ("SELL", 1003, 1004, 1000, False, 20),
    ("SELL", 1003, 1003, 55, False, 5),
    ("SELL", 1003, 1003, 1000, True, 0),
    ("SELL", 1003, 1002, 1000, False, 0),
]


@pytest.mark.parametrize(("side", "price", "at", "lots", "seller", "filled"), RESTING)
def test_a_resting_order_fills_at_its_price_when_a_trade_goes_through_or_its_queue_has_gone(
    side, price, at, lots, seller, filled
):
    desk = Desk()
    order = desk.order(side, 20, price, "GTX")

    # The book stays where it was: only the trade counts here.
    desk.book.tick(Tick(0, at, lots, seller, 1000, 50, 1001, 50))

    assert order.filled == filled
    trades = [r for r in desk.reports if r.kind == "TRADE"]
    assert all(r.maker and r.price == price for r in trades)


def test_an_improved_price_has_nobody_before_it():
    desk = Desk()
    desk.book.quote(1000, 50, ask=1004, ask_lots=50)
    order = desk.order("BUY", 20, 1002, "GTX")

    desk.book.tick(Tick(0, 1002, 12, True, 1000, 50, 1004, 50))

    assert order.filled == 12


def test_a_book_beyond_the_price_fills_a_resting_order_from_its_level():
    desk = Desk()
    order = desk.order("BUY", 80, 999, "GTX")

    desk.book.tick(Tick(0, 999, 0, True, 997, 50, 998, 30))

    assert (order.filled, order.status) == (30, "PARTIALLY_FILLED")


def test_a_market_remainder_goes_on_with_the_next_books():
    desk = Desk()
    order = desk.order("BUY", 120)

    desk.tick(1002)
    desk.tick(1003)

    assert order.status == "FILLED"
    assert [(r.price, r.lots) for r in desk.reports if r.kind == "TRADE"] == [(1001, 50), (1003, 50), (1004, 20)]
    assert desk.book.working == []


def test_a_market_remainder_expires_beyond_its_bound():
    desk = Desk()
    order = VenueOrder(9, "m", "X", True, "MARKET", "GTC", 120, 0, False, 0, bound=1010)
    desk.book.submit(order)

    desk.tick(1020)

    assert (order.status, order.er, order.filled) == ("EXPIRED", "9", 50)


def test_price_then_time_decides_who_fills_first():
    desk = Desk()
    late, better, early = desk.order("BUY", 10, 997), desk.order("BUY", 10, 998), desk.order("BUY", 10, 997)

    desk.book.tick(Tick(0, 996, 15, True, 1000, 50, 1001, 50))

    assert (better.filled, late.filled, early.filled) == (10, 5, 0)


def test_reduce_only_fills_to_flat_and_the_rest_expires():
    desk = Desk(position=30)

    order = desk.order("SELL", 50, reduce=True)

    assert desk.position == 0
    assert (order.filled, order.status, order.er) == (30, "EXPIRED", "4")


def test_a_taker_kills_an_own_resting_order_instead_of_trading_with_it():
    desk = Desk()
    resting = desk.order("SELL", 10, 1001)

    taker = desk.order("BUY", 20, 1005, "IOC")

    assert (resting.status, resting.er, resting.filled) == ("EXPIRED_IN_MATCH", "1", 0)
    assert taker.status == "FILLED"


def test_an_amended_post_only_order_that_would_take_ends():
    desk = Desk()
    order = desk.order("BUY", 10, 990, "GTX")

    desk.book.amend(order, 1001, lots=10)

    assert order.status == "EXPIRED"
    assert [r.kind for r in desk.reports] == ["NEW", "AMENDMENT", "EXPIRED"]


def test_an_amendment_that_changes_nothing_is_refused():
    desk = Desk()
    order = desk.order("BUY", 10, 990)

    with pytest.raises(Refused, match="-5027"):
        desk.book.amend(order, 990, lots=10)


actions = st.one_of(
    st.tuples(
        st.just("order"),
        st.sampled_from(["BUY", "SELL"]),
        st.integers(1, 200),
        st.one_of(st.just(0), st.integers(980, 1020)),
        st.sampled_from(["GTC", "IOC", "FOK", "GTX"]),
        st.booleans(),
    ),
    st.tuples(
        st.just("tick"),
        st.integers(980, 1020),
        st.integers(0, 300),
        st.booleans(),
        st.integers(1, 5),
        st.integers(1, 90),
    ),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("amend"), st.integers(0, 30), st.integers(980, 1020), st.integers(1, 200)),
)


@given(st.lists(actions, max_size=60))
def test_whatever_happens_positions_are_sums_of_fills_and_nobody_pays_more_than_his_price(script):
    desk = Desk()
    orders: list[VenueOrder] = []
    original = desk.report
    traded = 0
    refusals: set[int] = set()

    def watch(report: BookReport) -> None:
        nonlocal traded
        order, before = report.order, desk.position
        if report.kind == "TRADE":
            traded += report.lots if report.maker else 0
            assert report.lots > 0
            if order.type == "LIMIT":
                assert (report.price - order.price) * order.sign <= 0
            if order.reduce_only:
                assert before * order.sign < 0
                assert report.lots <= abs(before)
        if report.kind == "NEW":
            orders.append(order)
        original(report)

    desk.book.report = watch
    for action in script:
        match action:
            case ("order", side, lots, price, tif, reduce):
                try:
                    desk.order(side, lots, price, tif, reduce=reduce)
                except Refused as refused:
                    refusals.add(refused.code)
            case ("tick", price, lots, seller, width, depth):
                traded = 0
                desk.book.tick(Tick(0, price, lots, seller, price, depth, price + width, depth))
                assert traded <= lots + 2 * depth
            case ("cancel", index) if index < len(orders) and orders[index].live:
                desk.book.cancel(orders[index])
            case ("amend", index, price, lots) if index < len(orders) and orders[index] in desk.book.resting:
                try:
                    desk.book.amend(orders[index], price, lots=lots)
                except Refused as refused:
                    refusals.add(refused.code)

    assert refusals <= {-5021, -5022, -5027}
    assert desk.position == sum(order.sign * order.filled for order in orders)
    for order in orders:
        assert order.filled <= order.lots or order.amends
        assert order.live == (order in desk.book.resting or order in desk.book.working)
        trades = [r for r in desk.reports if r.kind == "TRADE" and r.order is order]
        assert sum(r.lots for r in trades) == order.filled
        assert sum(r.lots * r.price for r in trades) == order.cost
