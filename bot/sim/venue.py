"""The exchange without its network: books, account, orders and user events.

Everything happens at `now_ms`, which the caller sets before each call; requests come as Binance's parameters and either
change something or raise `Refused`; user events are appended to `outbox` in order. There is no clock, no randomness and
no socket here: the same calls give the same state.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from bot.sim import checks, entry, events, forced, margin, reports
from bot.sim.account import ZERO, VenueAccount, VenuePosition
from bot.sim.algos import AlgoDesk
from bot.sim.errors import Refused
from bot.sim.events import Json
from bot.sim.filters import SymbolRules, number
from bot.sim.matching import UNBOUNDED, BookReport, OrderBook
from bot.sim.naked import NakedTime, is_naked
from bot.sim.orders import Tick, VenueFill, VenueOrder
from bot.sim.quirks import Quirks
from bot.sim.settings import AccountSettings

MAX_ORDERS: Final = 200
FIRST_ORDER_ID: Final = 8_389_000_000_000
FIRST_TRADE_ID: Final = 6_000_000_000


class Venue:
    """One user's exchange over several symbols.

    Parameters
    ----------
    rules : dict
        Filters and tiers by symbol.
    wallet, maker_fee, taker_fee : Decimal
        USDT; fees as fractions.
    quirks : Quirks, optional
        Readings of undocumented behaviour.
    """

    def __init__(
        self,
        rules: dict[str, SymbolRules],
        *,
        wallet: Decimal,
        maker_fee: Decimal,
        taker_fee: Decimal,
        quirks: Quirks | None = None,
    ) -> None:
        self.rules = dict(rules)
        self.quirks = quirks or Quirks()
        self.maker_fee, self.taker_fee = maker_fee, taker_fee
        self.account = VenueAccount(wallet, {symbol: VenuePosition(r) for symbol, r in rules.items()})
        self.books = {symbol: OrderBook(self._room, self.report) for symbol in rules}
        self.now_ms = 0
        self.account_ms = 0
        self.outbox: list[Json] = []
        self.planned: list[tuple[int, str, Callable[[], None]]] = []  # deferred: time in ms, symbol, action
        self.notices: list[tuple[str, Json]] = []  # pending market stream events, by symbol
        self.amendments: list[Json] = []
        self.orders: dict[int, VenueOrder] = {}
        self._by_client: dict[tuple[str, str], VenueOrder] = {}
        self._open: dict[str, dict[int, VenueOrder]] = {symbol: {} for symbol in rules}
        self.fills: list[VenueFill] = []
        self.incomes: list[Json] = []
        self.naked = {symbol: NakedTime() for symbol in rules}
        self._next_order = FIRST_ORDER_ID
        self._next_trade = dict.fromkeys(rules, FIRST_TRADE_ID)
        self._countdowns: dict[str, int] = {}
        self.algos = AlgoDesk(self)
        self.settings = AccountSettings(self)
        self.turn(self.quirks)

    def turn(self, quirks: Quirks) -> None:
        """Switch to these quirks from now on; a new account type starts with its initial modes."""
        if quirks.account != self.settings.account:
            self.settings.become(quirks.account)
        self.quirks = quirks
        for book in self.books.values():
            book.post_only_expires = quirks.post_only_expires

    @property
    def asset(self) -> str:
        """The wallet's asset."""
        return "BNFCR" if self.quirks.account == "credits" else "USDT"

    # -- the market -------------------------------------------------------------------------------------------------

    def tick(self, symbol: str, tick: Tick) -> None:
        """Apply a market tick: orders fill, conditional orders trigger, margins are checked."""
        self.books[symbol].tick(tick)
        if self.algos.live[symbol]:
            self.algos.watch(symbol)
        if self.account.positions[symbol].qty:
            forced.watch_margin(self, symbol)

    def next_level(self, symbol: str, price: int, target: int) -> int | None:
        """Return the first price between `price` and `target` (ticks) at which a stop or liquidation lies, or None."""
        p, rising = self.account.positions[symbol], target > price
        tick = p.rules.tick
        levels = self.algos.levels(symbol, rising=rising)
        if p.qty and p.isolated and (p.sign < 0) == rising:
            levels.append(p.liquidation(self.mark(symbol)))
        rounding = "ROUND_CEILING" if rising else "ROUND_FLOOR"
        found = [int((level / tick).to_integral_value(rounding=rounding)) for level in levels]
        if rising:
            return min((level for level in found if price < level < target), default=None)
        return max((level for level in found if price > level > target), default=None)

    def pay_funding(self, symbol: str, rate: Decimal) -> None:
        """Settle funding of one symbol."""
        if not self.account.positions[symbol].qty:
            return
        paid = self.account.pay_funding(symbol, rate, mark=self.mark(symbol), at_ms=self.now_ms)
        self.account_ms = self.now_ms
        self.book_income(symbol, "FUNDING_FEE", -paid, info="FUNDING_FEE")
        self.outbox.append(events.account_event(self, "FUNDING_FEE", symbols=(symbol,), change=-paid))

    def change_rules(self, symbol: str, rules: SymbolRules) -> None:
        """Change a symbol's filters or status from now on; resting orders are unaffected."""
        self.rules[symbol] = self.account.positions[symbol].rules = rules
        self.notices.append((symbol, events.contract_info(self, symbol)))

    def mark(self, symbol: str) -> Decimal:
        """Return the mark price, which here is the last price."""
        return self.rules[symbol].price(self.books[symbol].last)

    def marks(self) -> dict[str, Decimal]:
        """Return all mark prices."""
        return {symbol: self.mark(symbol) for symbol in self.rules}

    # -- requests ---------------------------------------------------------------------------------------------------

    def symbol_of(self, params: dict[str, str]) -> str:
        """Return the request's symbol.

        Raises
        ------
        Refused
            -1121 if it is unknown.
        """
        symbol = entry.required(params, "symbol")
        if symbol not in self.rules:
            raise Refused(-1121)
        return symbol

    def place(self, params: dict[str, str], *, test: bool = False) -> tuple[VenueOrder, bool]:
        """Place a LIMIT or MARKET order; return it and whether its outcome was requested (RESULT).

        Raises
        ------
        Refused
            -4116 for a client id in use, -2025 at the limit of orders, or an error of the parameters, the checks or the
            book.
        """
        rules = self.rules[self.symbol_of(params)]
        self.settings.check_mode(params)
        wanted = entry.regular(params, rules, now_ms=self.now_ms)
        if wanted.client_id and self._is_open(wanted.symbol, wanted.client_id):
            raise Refused(-4116)
        if len(self._open[wanted.symbol]) >= MAX_ORDERS:
            raise Refused(-2025)
        order = self.new_order(wanted, wanted.type, wanted.lots)
        self.check(order)
        if not test:
            self.submit(order)
        return order, wanted.result

    def next_id(self) -> int:
        """Return the next order id."""
        self._next_order += 1
        return self._next_order

    def new_order(self, wanted: entry.Wanted, kind: str, lots: int) -> VenueOrder:
        """Build an order with the next id; it is not at the exchange before `submit`."""
        number = self.next_id()
        book, rules = self.books[wanted.symbol], self.rules[wanted.symbol]
        order = VenueOrder(
            number,
            wanted.client_id or f"web_{number}",
            wanted.symbol,
            wanted.buy,
            kind,
            wanted.tif,
            lots,
            wanted.price if wanted.price_match == "NONE" else checks.matched_price(self, wanted),
            wanted.reduce_only,
            self.now_ms,
            updated_ms=self.now_ms,
            stp=wanted.stp,
            price_match=wanted.price_match,
            gtd=wanted.gtd,
        )
        if kind == "MARKET":
            order.bound = int(book.last * (1 + order.sign * rules.take_bound))
        return order

    def check(self, order: VenueOrder) -> None:
        """Reject an order that violates the price band, minimum notional, position or margin."""
        checks.check(self, order)

    def submit(self, order: VenueOrder) -> None:
        """Submit a checked order to its book."""
        self.books[order.symbol].submit(order)
        if order.gtd and order.live:
            self.planned.append((order.gtd, order.symbol, lambda: self._run_out(order)))

    def _run_out(self, order: VenueOrder) -> None:
        """Expire a GTD order at its goodTillDate."""
        if order.live:
            self.books[order.symbol].expire(order, "0")

    def countdown(self, symbol: str, delay_ms: int) -> None:
        """Cancel all orders of a symbol in `delay_ms` unless renewed by then; 0 stops the countdown."""
        ours = self._countdowns[symbol] = self._countdowns.get(symbol, 0) + 1

        def strike() -> None:
            if self._countdowns[symbol] == ours:
                self.cancel_all(symbol)
                if self.quirks.countdown_cancels_algos:
                    self.algos.cancel_all(symbol)

        if delay_ms:
            self.planned.append((self.now_ms + delay_ms, symbol, strike))

    def find(self, params: dict[str, str], *, missing: int = -2013) -> VenueOrder:
        """Return the order named by `orderId` or `origClientOrderId`; the latest of a client id.

        Raises
        ------
        Refused
            `missing` if the order is unknown or past its retention, -1102 without an id.
        """
        symbol = self.symbol_of(params)
        if params.get("orderId"):
            order = self.orders.get(int(number(params, "orderId") or 0))
            if order is not None and order.symbol == symbol and not self.forgotten(order):
                return order
        elif params.get("origClientOrderId"):
            order = self._by_client.get((symbol, params["origClientOrderId"]))
            if order is not None and not self.forgotten(order):
                return order
        else:
            raise Refused(-1102, "orderId")
        raise Refused(missing)

    def forgotten(self, order: VenueOrder) -> bool:
        """Return whether an ended order is past its retention: without a fill 3 days, else 90."""
        kept_ms = self.quirks.fill_memory_ms if order.filled else self.quirks.order_memory_ms
        return not order.live and self.now_ms - order.updated_ms > kept_ms

    def cancel(self, params: dict[str, str]) -> VenueOrder:
        """Cancel a live order.

        Raises
        ------
        Refused
            -2011 if it is unknown or not live.
        """
        order = self.find(params, missing=-2011)
        if not order.live:
            raise Refused(-2011)
        self.books[order.symbol].cancel(order)
        return order

    def cancel_all(self, symbol: str) -> None:
        """Cancel the regular orders of a symbol; conditional ones stay."""
        for order in self.open_orders(symbol):
            self.books[symbol].cancel(order)

    def amend(self, params: dict[str, str]) -> VenueOrder:
        """Amend price and quantity of a resting LIMIT order.

        Raises
        ------
        Refused
            -2013 if it is unknown or not live, -5025 if not LIMIT, -5047 or -1130 if reduceOnly or side differ, or an
            error of the new values.
        """
        order = self.find(params)
        if not order.live:
            raise Refused(-2013)
        if order.type != "LIMIT":
            raise Refused(-5025)
        if "reduceOnly" in params and entry.flag(params, "reduceOnly") != order.reduce_only:
            raise Refused(-5047)
        if entry.side(params) != order.buy:
            raise Refused(-1130, "side")
        lots, ticks = checks.check_amendment(self, order, params)
        before = order.price, order.lots
        self.books[order.symbol].amend(order, ticks, lots=lots)
        self.amendments.append(events.amendment(self, order, before))
        return order

    def take_over(self, orders: dict[int, VenueOrder]) -> None:
        """Point all indices to other objects of the same orders (of a copy)."""
        self._open = {symbol: {i: orders[i] for i in live} for symbol, live in self._open.items()}
        self._by_client = {key: orders[order.order_id] for key, order in self._by_client.items()}

    def open_orders(self, symbol: str) -> list[VenueOrder]:
        """Return a symbol's live orders, oldest first."""
        return list(self._open[symbol].values())

    def _is_open(self, symbol: str, client_id: str) -> bool:
        order = self._by_client.get((symbol, client_id))
        return order is not None and order.live

    # -- margin -----------------------------------------------------------------------------------------------------

    def open_notional(self, symbol: str) -> tuple[Decimal, Decimal]:
        """Return the notional of open buys and sells that could increase a position."""
        return margin.open_notional(self, symbol)

    def order_margin(self, symbol: str, extra: VenueOrder | None = None) -> Decimal:
        """Return the initial margin of a symbol's open orders, including `extra`."""
        return margin.order_margin(self, symbol, extra)

    def reserved(self) -> Decimal:
        """Return the margin of all open orders."""
        return sum((margin.order_margin(self, symbol) for symbol in self.rules if self._open[symbol]), ZERO)

    # -- what the books report --------------------------------------------------------------------------------------

    def report(self, report: BookReport) -> None:
        """Apply a report of a book as it happens."""
        reports.take(self, report)

    def accepted(self, order: VenueOrder) -> None:
        """Register a new order."""
        self.orders[order.order_id] = order
        self._by_client[order.symbol, order.client_id] = order
        self._open[order.symbol][order.order_id] = order

    def ended(self, order: VenueOrder) -> None:
        """Remove an order that is no longer live from the open ones."""
        self._open[order.symbol].pop(order.order_id, None)

    def next_trade(self, symbol: str) -> int:
        """Return the next trade id of a symbol."""
        self._next_trade[symbol] += 1
        return self._next_trade[symbol]

    def _room(self, order: VenueOrder) -> int:
        if not order.reduce_only:
            return UNBOUNDED
        p = self.account.positions[order.symbol]
        return int(abs(p.qty) / p.rules.step) if p.sign == -order.sign else 0

    def note_naked(self, symbol: str) -> None:
        """Update the time without full cover."""
        p = self.account.positions[symbol]
        naked = is_naked(p.qty, self.algos.open(symbol), step=p.rules.step)
        self.naked[symbol].update(self.now_ms, naked=naked)

    def book_income(self, symbol: str, kind: str, amount: Decimal, *, info: str) -> None:
        """Record an income row as `GET income` reports it.

        Parameters
        ----------
        kind
            Binance's incomeType.
        amount
            USDT, negative if paid.
        info
            Trade id, or the kind again without a trade.
        """
        self.incomes.append(
            {
                "symbol": symbol,
                "incomeType": kind,
                "income": f"{amount:f}",
                "asset": self.asset,
                "info": info,
                "time": self.now_ms,
                "tranId": 9_000_000_000 + len(self.incomes),
                "tradeId": "" if kind in ("FUNDING_FEE", "TRANSFER") else info,
            }
        )
