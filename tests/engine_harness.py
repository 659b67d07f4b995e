"""A scripted venue around one Engine: it answers intents with events, moves prices, and keeps the truth to compare with.

The venue is deliberately small: an order is acknowledged `latency` ms after it was sent, executes by rules that fit on one
page, and each role can be told to behave otherwise (`behave`). It knows its own positions and measures its own naked
time, so a test compares the engine with something that the engine does not compute.
"""

import heapq
from dataclasses import dataclass, field
from decimal import Decimal as D
from typing import Any

from bot.config import Config, parse
from bot.core.events import (
    AccountSnapshot,
    AccountUpdate,
    CancelRejected,
    Command,
    Fill,
    Funding,
    KlineClosed,
    LeverageSet,
    OrderUpdate,
    Quotes,
    SessionStarted,
    TimerFired,
)
from bot.core.intents import Alert, CancelOrder, CancelTimer, LookUp, PlaceOrder, RequestSnapshot, SetLeverage, SetTimer
from bot.core.records import Decision, EquityPoint, NakedSpell, TradeRecord
from bot.core.types import (
    Income,
    Instrument,
    Kline,
    OrderReport,
    OrderSide,
    OrderStatus,
    OrderType,
    PositionReport,
    Quote,
    Side,
    Tier,
    TimeInForce,
)
from bot.engine import Engine
from bot.orders.ids import role_of

S = OrderStatus
BTC, ETH, SOL = "BTCUSDT", "ETHUSDT", "SOLUSDT"
SYMBOLS = (BTC, ETH, SOL)
BASE = 180_000
START = 1_767_225_600_000  # 2026-01-01T00:00Z
TIERS = (
    Tier(D(300_000), 150, D("0.004"), D(0)),
    Tier(D(800_000), 100, D("0.005"), D(300)),
    Tier(D(3_000_000), 75, D("0.0065"), D(1500)),
)
MAKER, TAKER = D("0.0002"), D("0.0004")
INSTRUMENTS = {
    BTC: Instrument(BTC, D("0.10"), D("0.001"), D("0.001"), D(1000), D(120), D(50), TIERS, MAKER, TAKER),
    ETH: Instrument(ETH, D("0.01"), D("0.001"), D("0.001"), D(10000), D(2000), D(20), TIERS, MAKER, TAKER),
    SOL: Instrument(SOL, D("0.01"), D("0.01"), D("0.01"), D(1000000), D(5000), D(5), TIERS, MAKER, TAKER),
}
PRICES = {BTC: D(60000), ETH: D(3000), SOL: D(150)}
SWING = (0.0, 4e-4, -2e-4, 6e-4, 1e-4, -5e-4, 3e-4, -1e-4, 5e-4, -4e-4)  # BTC's returns in the history
NOISE = (1e-4, -2e-4, 1e-4, 0.0, -1e-4, 2e-4, -1e-4)


def config_of(*overrides: str) -> Config:
    """The default configuration with `section.key=value` overrides."""
    return parse("", overrides=tuple(overrides))


class Rows:
    """Stands in for the indicators: rows set by the test, by symbol and open time."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], dict[str, float] | None] = {}

    def step(self, event: KlineClosed) -> dict[str, float] | None:
        key = (event.kline.symbol, event.kline.open_ms)
        return self.rows[key] if key in self.rows else quiet_row()


def quiet_row() -> dict[str, float]:
    """A bar without a signal; 3 of 6 hold for either side."""
    row = {"atr14": 60.0, "ready": 1.0, "sta_os": 1.0, "sta_ts": 59_000.0, "pac_event": 0.0, "pac_dir": 0.0}
    row |= {"long_signal": 0.0, "short_signal": 0.0, "long_gates": 0.0, "short_gates": 0.0}
    row |= {"smc_int_bull_choch": 0.0, "smc_int_bear_choch": 0.0, "highest50": 61_000.0, "lowest50": 59_000.0}
    for side in ("long", "short"):
        row |= {f"{side}_{c}": float(c in ("htf", "ob", "trail")) for c in ("htf", "ob", "trail")}
        row |= {f"{side}_{c}": 0.0 for c in ("hw_cross", "no_overflow", "conf")}
    return row


def signal_row(side: Side) -> dict[str, float]:
    """All six conditions of a side on a block from 59,940 to 60,060: entry 60,000, stop 105 away (0.75 ATR beyond)."""
    name = side.name.lower()
    row = quiet_row() | {
        f"{name}_{c}": 1.0 for c in ("htf", "ob", "hw_cross", "no_overflow", "conf", "trail", "signal")
    }
    row |= {f"{name}_ob_bottom": 59_940.0, f"{name}_ob_top": 60_060.0, f"{name}_ob_id": 7.0}
    row |= {"sta_os": float(side is Side.LONG), "sta_ts": 60_000.0 - side.sign * 500.0}
    return row


def leg_row(symbol: str) -> dict[str, float]:
    """A leg's bar: blocks and extremes around its price."""
    price = float(PRICES[symbol])
    row = quiet_row() | {"atr14": price * 0.001, "highest50": price * 1.01, "lowest50": price * 0.99}
    return row | {"pac_supply_top": price * 1.004, "pac_demand_bottom": price * 0.996}


@dataclass
class VenueOrder:
    """The venue's own view of an order."""

    intent: PlaceOrder
    status: OrderStatus = S.NEW
    filled: D = D(0)
    value: D = D(0)
    since: int = 0  # when it arrived

    @property
    def live(self) -> bool:
        return not self.status.is_terminal


@dataclass
class Harness:
    """An engine, a venue, a heap of what is on its way, and one clock."""

    side: Side = Side.LONG
    overrides: tuple[str, ...] = ()
    venue: str = "sim"
    wallet: D = D(10_000)
    latency: int = 20
    calendar: tuple[tuple[int, str, str], ...] = ()
    engine: Any = None
    now: int = START
    behave: dict[str, Any] = field(default_factory=dict)  # role -> reject code, "silent", "unknown", ("part", fraction)
    funding_rate: D = D("0.0001")
    snapshots: bool = True
    instruments: dict[str, Instrument] = field(default_factory=lambda: dict(INSTRUMENTS))

    def __post_init__(self) -> None:
        self.rows = Rows()
        self.engine = self.engine or Engine(
            config_of(*self.overrides), self.rows, venue=self.venue, calendar=self.calendar
        )
        self.heap: list[tuple[int, int, Any]] = []
        self.counter = 0
        self.events: list[Any] = []
        self.batches: list[list[Any]] = []
        self.orders: dict[str, VenueOrder] = {}
        self.position: dict[str, D] = {s: D(0) for s in SYMBOLS}
        self.price = dict(PRICES)
        self.cash = self.wallet
        self.fills: list[Fill] = []
        self.timers: dict[str, int] = {}
        self.trade_id = 0
        self.open_ms = START
        self.naked_since: dict[str, int] = {}
        self.naked_longest: dict[str, int] = dict.fromkeys(SYMBOLS, 0)
        self.silent_fills = False
        self.lost_updates = False
        self.costs: dict[str, D] = {s: D(0) for s in SYMBOLS}  # what the open quantity cost, signed
        self.bookings: list[Income] = []

    # What the engine said

    @property
    def outputs(self) -> list[Any]:
        return [o for batch in self.batches for o in batch]

    def of(self, kind: type, role: str | None = None) -> list[Any]:
        """All outputs of a kind, orders and cancels by role if asked."""
        found = [o for o in self.outputs if isinstance(o, kind)]
        return found if role is None else [o for o in found if role_of(o.client_id) == role]

    def placed(self, role: str, symbol: str = BTC) -> list[PlaceOrder]:
        return [o for o in self.of(PlaceOrder, role) if o.symbol == symbol]

    @property
    def record(self) -> TradeRecord:
        (record,) = self.of(TradeRecord)
        return record

    @property
    def decision(self) -> Decision:
        return self.of(Decision)[-1]

    def live(self, role: str, symbol: str = BTC) -> list[VenueOrder]:
        return [o for c, o in self.orders.items() if o.live and role_of(c) == role and o.intent.symbol == symbol]

    def at(self, offset: float) -> D:
        """A price `offset` in favour of the trade away from 60,000."""
        return D(60000) + self.side.sign * D(str(offset))

    # Time and delivery

    def send(self, event: Any) -> list[Any]:
        """Hand one event to the engine and perform what it wants."""
        self.events.append(event)
        batch = self.engine.handle(event)
        self.batches.append(batch)
        for output in batch:
            self.perform(output)
        return batch

    def later(self, delay: int, what: Any) -> None:
        self.counter += 1
        heapq.heappush(self.heap, (self.now + delay, self.counter, what))

    def run(self, ms: int) -> None:
        """Let `ms` pass."""
        end = self.now + ms
        while self.heap and self.heap[0][0] <= end:
            at, _, what = heapq.heappop(self.heap)
            self.now = max(self.now, at)
            if callable(what):
                what()
            elif isinstance(what, TimerFired):
                if self.timers.get(what.name) == what.at_ms:
                    del self.timers[what.name]
                    self.quotes()
                    self.send(what)
            else:
                self.send(what)
        self.now = end

    def perform(self, output: Any) -> None:
        match output:
            case PlaceOrder():
                self.later(self.latency, lambda o=output: self.arrive(o))
            case CancelOrder():
                self.later(self.latency, lambda o=output: self.cancel(o))
            case SetTimer():
                at = max(self.events[-1].at_ms, self.engine.now) + output.delay_ms
                self.timers[output.name] = at
                self.counter += 1
                heapq.heappush(self.heap, (at, self.counter, TimerFired(at, output.name)))
            case CancelTimer():
                self.timers.pop(output.name, None)
            case SetLeverage():
                self.later(self.latency, lambda o=output: self.send(LeverageSet(self.now, o.symbol, o.leverage)))
            case RequestSnapshot():
                if self.snapshots:
                    since = output.income_since_ms
                    self.later(self.latency, lambda: self.send(self.snapshot(income_since_ms=since)))
            case LookUp():
                self.later(self.latency, lambda o=output: self.look_up(o))
            case Alert() | Decision() | TradeRecord() | EquityPoint() | NakedSpell():
                pass
            case _:
                raise AssertionError(output)

    # The venue

    def tell(self, order: VenueOrder, *, code: int = 0, reason: str = "", at: int | None = None) -> None:
        """Queue an update that says how an order stands."""
        if not self.lost_updates:
            self.later(self.latency, self.told(order, code=code, reason=reason, at=at))

    def told(self, order: VenueOrder, *, code: int = 0, reason: str = "", at: int | None = None) -> OrderUpdate:
        """How an order stands."""
        i = order.intent
        average = order.value / order.filled if order.filled else D(0)
        return OrderUpdate(
            at if at is not None else self.now,
            i.client_id,
            i.symbol,
            order.status,
            i.side,
            i.qty,
            order.filled,
            average,
            algo=i.algo and order.status in (S.NEW, S.TRIGGERED),
            code=code,
            reason=reason,
        )

    def arrive(self, intent: PlaceOrder) -> None:
        role = role_of(intent.client_id)
        behaviour = self.behave.get(f"{role}:{intent.symbol}", self.behave.get(role))
        if isinstance(behaviour, list):
            behaviour = behaviour.pop(0) if behaviour else None
        order = VenueOrder(intent, since=self.now)
        assert intent.client_id not in self.orders, "an id was sent twice"
        if behaviour == "silent":
            return
        if isinstance(behaviour, int):
            order.status = S.REJECTED
            self.tell(order, code=behaviour, reason="refused by the script")
            return
        if behaviour == "false":  # not taken, and said to rest
            self.tell(order)
            return
        if behaviour == "unknown":
            order.status = S.UNKNOWN
            self.tell(order)
            order.status = S.NEW
            self.orders[intent.client_id] = order
            return
        bid, ask = self.book(intent.symbol)
        crosses = intent.price is not None and (
            intent.price >= ask if intent.side is OrderSide.BUY else intent.price <= bid
        )
        if intent.time_in_force is TimeInForce.GTX and crosses:
            order.status = S.REJECTED
            self.tell(order, code=-5022, reason="post only")
            return
        if intent.reduce_only and not intent.algo and self.reducible(intent) <= 0:
            order.status = S.REJECTED
            self.tell(order, code=-2022, reason="reduce only")
            return
        self.orders[intent.client_id] = order
        if intent.order_type is OrderType.STOP_MARKET and self.passed(intent):
            del self.orders[intent.client_id]
            order.status = S.REJECTED
            self.tell(order, code=-2021, reason="would trigger immediately")
            return
        for _ in ("the reply", "the user stream") if intent.algo else ("the reply",):
            self.tell(order)
        if intent.order_type is OrderType.MARKET or intent.time_in_force is TimeInForce.IOC:
            share = behaviour[1] if isinstance(behaviour, tuple) else D(1)
            far = ask if intent.side is OrderSide.BUY else bid
            able = intent.time_in_force is not TimeInForce.IOC or crosses
            qty = self.instruments[intent.symbol].qty(intent.qty * share) if able else D(0)
            if intent.reduce_only:
                qty = min(qty, self.reducible(intent))
            if qty:
                self.execute(order, qty, far, maker=False)
            if order.live:
                order.status = S.EXPIRED
                self.tell(order)
        elif crosses:
            self.execute(order, intent.qty, ask if intent.side is OrderSide.BUY else bid, maker=False)
        self.measure()

    def cancel(self, intent: CancelOrder) -> None:
        order = self.orders.get(intent.client_id)
        if order is None or not order.live:
            if order is not None:
                self.tell(order)  # the executor queries and passes on what the query says
            else:
                self.later(
                    self.latency, CancelRejected(self.now, intent.client_id, intent.symbol, -2011, "unknown order")
                )
            return
        assert intent.algo == (order.intent.algo and order.status is S.NEW)
        order.status = S.CANCELED
        self.tell(order)
        self.measure()

    def look_up(self, intent: LookUp) -> None:
        """Answer what became of an order; one that never arrived is proved absent some seconds after it was sent."""
        order = self.orders.get(intent.client_id)
        if order is not None:
            Harness.later(self, self.latency, self.told(order))  # a reply: it comes, whatever pushes do
            return
        gone = VenueOrder(PlaceOrder(intent.client_id, intent.symbol, intent.side, OrderType.MARKET, intent.qty))
        if intent.accepted and intent.algo:
            gone.status = S.UNKNOWN
            Harness.later(self, self.latency, self.told(gone, code=-2013))
        gone.status = S.EXPIRED if intent.accepted else S.REJECTED
        wait = max(6_000 - (self.now - intent.sent_ms), 0)
        update = OrderUpdate(
            self.now + wait,
            intent.client_id,
            intent.symbol,
            gone.status,
            intent.side,
            intent.qty,
            D(0),
            D(0),
            code=-2013,
        )
        Harness.later(self, wait + self.latency, update)

    def reducible(self, intent: PlaceOrder) -> D:
        return max(-intent.side.sign * self.position[intent.symbol], D(0))

    def passed(self, intent: PlaceOrder) -> bool:
        assert intent.trigger_price is not None
        return -intent.side.sign * (self.price[intent.symbol] - intent.trigger_price) <= 0

    def book(self, symbol: str) -> tuple[D, D]:
        return self.price[symbol], self.price[symbol] + self.instruments[symbol].tick

    def execute(self, order: VenueOrder, qty: D, price: D, *, maker: bool) -> None:
        """One execution: a fill, an order update and an account update."""
        i = order.intent
        order.filled += qty
        order.value += qty * price
        whole = order.filled >= i.qty if i.qty else self.position[i.symbol] + i.side.sign * qty == 0
        order.status = S.FILLED if whole else S.PARTIALLY_FILLED
        self.trade_id += 1
        fee = qty * price * (MAKER if maker else TAKER)
        fill = Fill(self.now, i.client_id, i.symbol, i.side, qty, price, fee, maker, self.trade_id)
        self.fills.append(fill)
        self.settle(i.symbol, i.side, qty, price, fee)
        if not self.silent_fills:
            self.later(self.latency, fill)
        self.tell(order)
        held = PositionReport(i.symbol, self.position[i.symbol], price)
        if not self.silent_fills:
            self.later(self.latency, AccountUpdate(self.now + 1, "ORDER", self.balance, D(0), (held,)))
        self.measure()

    def foreign(self, name: str, side: OrderSide, qty: D, price: D, symbol: str = BTC) -> Fill:
        """Somebody else's order executes on the account, and the user stream reports it."""
        self.trade_id += 1
        fill = Fill(self.now, name, symbol, side, qty, price, D(1), False, self.trade_id)
        self.fills.append(fill)
        self.settle(symbol, side, qty, price, D(1))
        held = PositionReport(symbol, self.position[symbol], price)
        self.send(fill)
        self.send(AccountUpdate(self.now + 1, "ORDER", self.balance, D(0), (held,)))
        return fill

    def settle(self, symbol: str, side: OrderSide, qty: D, price: D, fee: D) -> None:
        """Book an execution: position, cash, what the rest cost, and the account's history."""
        held, signed = self.position[symbol], side.sign * qty
        closing = D(0) if held * signed >= 0 else max(min(qty, abs(held)), D(0)) * side.sign
        released = -closing * self.costs[symbol] / held if closing else D(0)
        realized = -closing * price - released
        self.costs[symbol] += (signed - closing) * price - released
        self.position[symbol] += signed
        self.cash -= signed * price + fee
        for kind, amount in (("REALIZED_PNL", realized), ("COMMISSION", -fee)):
            self.booking(kind, amount, symbol)

    def booking(self, kind: str, amount: D, symbol: str = "") -> None:
        """Enter a change of the wallet into the account's history."""
        if amount:
            self.bookings.append(Income(self.now, kind, symbol, amount, len(self.bookings) + 1))

    @property
    def balance(self) -> D:
        """The wallet: cash, and what the open positions cost."""
        return self.cash + sum(self.costs.values(), D(0))

    def fill(self, role: str, qty: D | None = None, price: D | None = None, symbol: str = BTC) -> None:
        """A counterparty meets a resting order."""
        (order,) = self.live(role, symbol)[:1]
        rest = order.intent.qty - order.filled
        self.execute(order, rest if qty is None else qty, price or order.intent.price or self.price[symbol], maker=True)

    def move(self, price: D | float, symbol: str = BTC) -> None:
        """The price goes there: stops trigger, limits that it passes through fill."""
        price = D(str(price))
        self.price[symbol] = price
        for order in list(self.orders.values()):
            i = order.intent
            if not order.live or i.symbol != symbol:
                continue
            if i.algo and order.status is S.NEW and self.passed(i):
                if not self.reducible(i):
                    order.status = S.EXPIRED
                    self.tell(order)
                    continue
                order.status = S.TRIGGERED
                self.tell(order)
                qty = self.reducible(i) if i.close_position else min(i.qty, self.reducible(i))
                self.execute(order, qty, price, maker=False)
                if order.live:  # it became a market order: what found nothing to reduce expires
                    order.status = S.EXPIRED
                    self.tell(order)
            elif i.time_in_force in (TimeInForce.GTC, TimeInForce.GTX) and i.side.sign * (i.price - price) > 0:
                rest = i.qty - order.filled
                if i.reduce_only:
                    rest = min(rest, self.reducible(i))
                if rest > 0:
                    self.execute(order, rest, i.price, maker=True)
        if not self.position[symbol]:  # closePosition stops fall away when there is nothing to close
            for order in self.orders.values():
                if order.live and order.intent.close_position and order.intent.symbol == symbol:
                    order.status = S.EXPIRED
                    self.tell(order)
        self.measure()

    def measure(self) -> None:
        """The venue's own naked time, per symbol."""
        for symbol in SYMBOLS:
            held = self.position[symbol]
            cover = sum(
                (
                    o.intent.qty - o.filled
                    for o in self.orders.values()
                    if o.live and o.intent.algo and not o.intent.close_position and o.intent.symbol == symbol
                ),
                D(0),
            )
            if abs(held) > cover:
                self.naked_since.setdefault(symbol, self.now)
            elif symbol in self.naked_since:
                spell = self.now - self.naked_since.pop(symbol)
                self.naked_longest[symbol] = max(self.naked_longest[symbol], spell)

    def snapshot(self, *, income_since_ms: int = 0) -> AccountSnapshot:
        positions = tuple(PositionReport(s, q, self.price[s]) for s, q in self.position.items() if q)
        orders = tuple(
            OrderReport(
                c,
                o.intent.symbol,
                o.intent.side,
                o.intent.order_type,
                o.status,
                o.intent.qty,
                o.filled,
                o.value / o.filled if o.filled else D(0),
                o.intent.price or o.intent.trigger_price or D(0),
                o.intent.reduce_only,
                o.intent.close_position,
                o.intent.algo,
                o.since or self.now,
            )
            for c, o in self.orders.items()
            if o.live and o.status is not S.TRIGGERED
        )
        income = tuple(b for b in self.bookings if b.at_ms >= income_since_ms) if income_since_ms else None
        return AccountSnapshot(self.now, self.balance, positions, orders, tuple(self.fills), income)

    # Scenes

    def quotes(self) -> None:
        pairs = []
        for symbol in SYMBOLS:
            bid, ask = self.book(symbol)
            pairs.append((symbol, Quote(bid, D(5), ask, D(5))))
        self.send(Quotes(self.now, tuple(pairs)))

    def kline(self, symbol: str, open_ms: int, *, high: D | None = None, low: D | None = None) -> Kline:
        close = self.price[symbol]
        top, bottom = max(high or close, close), min(low or close, close)
        return Kline(symbol, BASE, open_ms, float(close), float(top), float(bottom), float(close), 10.0, 5.0)

    def start(self) -> "Harness":
        """A session with history: 30 bars of all symbols, correlated, then everything that entries need."""
        self.send(SessionStarted(self.now, self.venue, self.wallet, tuple(self.instruments.values())))
        self.run(100)
        level = {s: float(PRICES[s]) for s in SYMBOLS}
        for i in range(30):
            move = SWING[i % len(SWING)]
            open_ms = START - (30 - i) * BASE
            for symbol, factor in ((ETH, 1.2), (SOL, 1.5), (BTC, 1.0)):
                level[symbol] *= 1 + factor * move + (NOISE[i % len(NOISE)] if symbol != BTC else 0.0)
                close = level[symbol]
                kline = Kline(symbol, BASE, open_ms, close, close, close, close, 10.0, 5.0)
                self.send(KlineClosed(open_ms + BASE, kline, history=True))
        for symbol in SYMBOLS:
            rate = self.funding_rate
            self.send(Funding(self.now, symbol, self.price[symbol], rate, START + 8 * 3_600_000))
        if self.venue in ("testnet", "live"):
            self.send(self.snapshot())
        self.run(BASE - 100)
        return self

    def bar(
        self,
        row: dict[str, float] | None = None,
        *,
        legs: tuple[str, ...] = (ETH, SOL),
        high: D | None = None,
        low: D | None = None,
    ) -> list[Any]:
        """The bar that began at `open_ms` closes now, legs first; returns what BTC's bar brought about."""
        open_ms = self.open_ms
        self.open_ms += BASE
        for symbol in legs:
            self.rows.rows[symbol, open_ms] = leg_row(symbol)
            self.send(KlineClosed(self.now, self.kline(symbol, open_ms)))
        if row is not None:
            self.rows.rows[BTC, open_ms] = row
        self.quotes()
        return self.send(KlineClosed(self.now, self.kline(BTC, open_ms, high=high, low=low)))

    def next_bar(self, row: dict[str, float] | None = None, **more: Any) -> list[Any]:
        """Let the rest of the current bar pass and close it."""
        self.run(self.open_ms + BASE - self.now)
        return self.bar(row, **more)

    def signal(self) -> list[Any]:
        """The bar with the signal; price 60,000 + 40 in favour, so that the maker order rests."""
        self.price[BTC] = self.at(40)
        return self.bar(signal_row(self.side))

    def enter(self) -> "Harness":
        """Signal, maker order wholly filled at 60,000, stops accepted, targets and legs placed."""
        self.signal()
        self.run(100)
        self.fill("en")
        self.run(300)
        return self

    def command(self, name: str, **args: Any) -> None:
        self.send(Command(self.now, name, args))


def started(side: Side = Side.LONG, *overrides: str, **more: Any) -> Harness:
    """A harness after its start, one bar's length in."""
    return Harness(side, tuple(overrides), **more).start()


def replayed(harness: Harness) -> tuple[Engine, list[list[Any]]]:
    """The same events through a fresh engine."""
    engine = Engine(config_of(*harness.overrides), harness.rows, venue=harness.venue, calendar=harness.calendar)
    return engine, [engine.handle(event) for event in harness.events]
