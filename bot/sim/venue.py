"""The exchange itself, without its wires: books, account, orders and the words of the user stream.

Everything happens at `now_ms`, which the caller sets before each call; requests come as Binance's parameters and either
change something or raise `Refused`; what the user stream has to say is appended to `outbox` in order. There is no clock, no
chance and no socket in here: the same calls give the same state.
"""

from decimal import Decimal
from typing import Final

from bot.sim import entry, payloads
from bot.sim.account import ZERO, Account, Position
from bot.sim.algos import AlgoDesk
from bot.sim.errors import Refused
from bot.sim.filters import SymbolRules, number
from bot.sim.matching import UNBOUNDED, Book, Report
from bot.sim.naked import NakedTime, is_naked
from bot.sim.orders import Fill, Order, Tick
from bot.sim.payloads import Json

MAX_ORDERS: Final = 200
FIRST_ORDER_ID: Final = 8_389_000_000_000
FIRST_TRADE_ID: Final = 6_000_000_000
MARGIN_CALL_AT: Final = Decimal("0.8")  # maintenance over margin


class Venue:
    """One user's exchange over several symbols.

    Parameters
    ----------
    rules : dict
        Filters and tiers by symbol.
    wallet, maker_fee, taker_fee : Decimal
        USDT; fees as fractions.
    """

    def __init__(
        self, rules: dict[str, SymbolRules], *, wallet: Decimal, maker_fee: Decimal, taker_fee: Decimal
    ) -> None:
        self.rules = rules
        self.maker_fee, self.taker_fee = maker_fee, taker_fee
        self.account = Account(wallet, {symbol: Position(r) for symbol, r in rules.items()})
        self.books = {symbol: Book(self._room, self._report) for symbol in rules}
        self.now_ms = 0
        self.account_ms = 0
        self.outbox: list[Json] = []
        self.orders: dict[int, Order] = {}
        self._by_client: dict[tuple[str, str], Order] = {}
        self._open: dict[str, dict[int, Order]] = {symbol: {} for symbol in rules}
        self.fills: list[Fill] = []
        self.incomes: list[Json] = []
        self.naked = {symbol: NakedTime() for symbol in rules}
        self._next_order = FIRST_ORDER_ID
        self._next_trade = dict.fromkeys(rules, FIRST_TRADE_ID)
        self.algos = AlgoDesk(self)

    # -- the market -------------------------------------------------------------------------------------------------

    def tick(self, symbol: str, tick: Tick) -> None:
        """Let the market trade: orders fill, conditional orders trigger, margins are looked at."""
        self.books[symbol].tick(tick)
        if self.algos.live[symbol]:
            self.algos.watch(symbol)
        if self.account.positions[symbol].qty:
            self._watch_margin(symbol)

    def next_level(self, symbol: str, price: int, target: int) -> int | None:
        """Return the first price on the way from `price` to `target` (ticks) where a stop or a liquidation stands."""
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
        self._income(symbol, "FUNDING_FEE", -paid, info="FUNDING_FEE")
        self.outbox.append(payloads.account_event(self, "FUNDING_FEE", symbols=(symbol,), change=-paid))

    def mark(self, symbol: str) -> Decimal:
        """Return the mark price, which here is the last price."""
        return self.rules[symbol].price(self.books[symbol].last)

    def marks(self) -> dict[str, Decimal]:
        """Return all mark prices."""
        return {symbol: self.mark(symbol) for symbol in self.rules}

    # -- requests ---------------------------------------------------------------------------------------------------

    def symbol_of(self, params: dict[str, str]) -> str:
        """Return the request's symbol."""
        symbol = entry.required(params, "symbol")
        if symbol not in self.rules:
            raise Refused(-1121)
        return symbol

    def place(self, params: dict[str, str], *, test: bool = False) -> tuple[Order, bool]:
        """Take a LIMIT or MARKET order; return it and whether its outcome was asked for (RESULT)."""
        rules = self.rules[self.symbol_of(params)]
        wanted = entry.regular(params, rules)
        if wanted.client_id and self._is_open(wanted.symbol, wanted.client_id):
            raise Refused(-4116)
        if len(self._open[wanted.symbol]) >= MAX_ORDERS:
            raise Refused(-2025)
        order = self.new_order(wanted, wanted.type, wanted.lots)
        self.check(order)
        if not test:
            self.submit(order)
        return order, wanted.result

    def new_order(self, wanted: entry.Wanted, kind: str, lots: int) -> Order:
        """Build an order with the next id; it is not at the exchange before `submit`."""
        self._next_order += 1
        book, rules = self.books[wanted.symbol], self.rules[wanted.symbol]
        order = Order(
            self._next_order,
            wanted.client_id or f"web_{self._next_order}",
            wanted.symbol,
            wanted.buy,
            kind,
            wanted.tif,
            lots,
            wanted.price,
            wanted.reduce_only,
            self.now_ms,
            updated_ms=self.now_ms,
            stp=wanted.stp,
        )
        if kind == "MARKET":
            order.bound = int(book.last * (1 + order.sign * rules.take_bound))
        return order

    def check(self, order: Order) -> None:
        """Refuse what the price band, the smallest notional, the position or the margin do not allow."""
        rules, book, p = self.rules[order.symbol], self.books[order.symbol], self.account.positions[order.symbol]
        mark = self.mark(order.symbol)
        market = order.type == "MARKET"
        if not market:
            rules.check_band(rules.price(order.price), mark, buy=order.buy)
        if order.reduce_only:
            if p.sign != -order.sign:
                raise Refused(-2022)
            return
        touch = book.ask if order.buy else book.bid
        notional = rules.notional(order.left * (touch if market else order.price))
        if (rules.qty(order.lots) * mark if market else notional) < rules.min_notional:
            raise Refused(-4164, f"{rules.min_notional:f}")
        growth = self.order_margin(order.symbol, order) - self.order_margin(order.symbol)
        if growth > 0:
            if growth > self.account.available(self.marks(), self.reserved()):
                raise Refused(-2019)
            held = abs(p.notional(mark)) if p.sign == order.sign else ZERO
            if held + notional > rules.cap(p.leverage):
                raise Refused(-2027)

    def submit(self, order: Order) -> None:
        """Hand a checked order to its book."""
        self.books[order.symbol].submit(order)

    def find(self, params: dict[str, str], *, missing: int = -2013) -> Order:
        """Return the order that `orderId` or `origClientOrderId` names; the latest of a client id."""
        symbol = self.symbol_of(params)
        if params.get("orderId"):
            order = self.orders.get(int(number(params, "orderId") or 0))
            if order is not None and order.symbol == symbol:
                return order
        elif params.get("origClientOrderId"):
            order = self._by_client.get((symbol, params["origClientOrderId"]))
            if order is not None:
                return order
        else:
            raise Refused(-1102, "orderId")
        raise Refused(missing)

    def cancel(self, params: dict[str, str]) -> Order:
        """Cancel a live order."""
        order = self.find(params, missing=-2011)
        if not order.live:
            raise Refused(-2011)
        self.books[order.symbol].cancel(order)
        return order

    def cancel_all(self, symbol: str) -> None:
        """Cancel the regular orders of a symbol; conditional ones stay."""
        for order in self.open_orders(symbol):
            self.books[symbol].cancel(order)

    def amend(self, params: dict[str, str]) -> Order:
        """Change price and quantity of a resting LIMIT order."""
        order = self.find(params)
        if not order.live:
            raise Refused(-2013)
        if order.type != "LIMIT":
            raise Refused(-5040)
        if entry.side(params) != order.buy:
            raise Refused(-1130, "side")
        rules = self.rules[order.symbol]
        quantity, price = number(params, "quantity", required=True), number(params, "price", required=True)
        assert quantity is not None
        assert price is not None
        lots, ticks = rules.lots(quantity), rules.ticks(price)
        rules.check_band(price, self.mark(order.symbol), buy=order.buy)
        if not order.reduce_only:
            if rules.notional(lots * ticks) < rules.min_notional:
                raise Refused(-4164, f"{rules.min_notional:f}")
            before = self.order_margin(order.symbol)
            kept, order.lots, order.price = (order.lots, order.price), lots, ticks
            growth = self.order_margin(order.symbol) - before
            order.lots, order.price = kept
            if growth > self.account.available(self.marks(), self.reserved()):
                raise Refused(-2019)
        self.books[order.symbol].amend(order, ticks, lots=lots)
        return order

    def open_orders(self, symbol: str) -> list[Order]:
        """Return a symbol's live orders, oldest first."""
        return list(self._open[symbol].values())

    def _is_open(self, symbol: str, client_id: str) -> bool:
        order = self._by_client.get((symbol, client_id))
        return order is not None and order.live

    # -- settings ---------------------------------------------------------------------------------------------------

    def set_leverage(self, params: dict[str, str]) -> Json:
        """Change a symbol's leverage."""
        symbol = self.symbol_of(params)
        p, rules = self.account.positions[symbol], self.rules[symbol]
        value = number(params, "leverage", required=True)
        if value is None or value != int(value) or not 1 <= value <= rules.tiers[0].max_leverage:
            raise Refused(-4028, params["leverage"])
        leverage = int(value)
        if p.qty and p.isolated and leverage < p.leverage:
            raise Refused(-4161)
        if p.qty and abs(p.notional(self.mark(symbol))) > rules.cap(leverage):
            raise Refused(-2027)
        p.leverage = leverage
        self.outbox.append(payloads.leverage_event(self, symbol))
        return {"leverage": leverage, "maxNotionalValue": f"{rules.cap(leverage):f}", "symbol": symbol}

    def set_margin_type(self, params: dict[str, str]) -> Json:
        """Change a symbol between ISOLATED and CROSSED."""
        symbol = self.symbol_of(params)
        kind = entry.required(params, "marginType")
        if kind not in ("ISOLATED", "CROSSED"):
            raise Refused(-1130, "marginType")
        p = self.account.positions[symbol]
        if p.isolated == (kind == "ISOLATED"):
            raise Refused(-4046)
        if self._open[symbol] or self.algos.live[symbol]:
            raise Refused(-4047)
        if p.qty:
            raise Refused(-4048)
        p.isolated = kind == "ISOLATED"
        return {"code": 200, "msg": "success"}

    def move_margin(self, params: dict[str, str]) -> Json:
        """Add to (type 1) or take from (type 2) an isolated position's margin."""
        symbol = self.symbol_of(params)
        amount, kind = number(params, "amount", required=True), entry.required(params, "type")
        if kind not in ("1", "2"):
            raise Refused(-1130, "type")
        if amount is None or amount <= 0:
            raise Refused(-4055)
        signed = amount if kind == "1" else -amount
        self.account.move_margin(symbol, signed, marks=self.marks(), reserved=self.reserved())
        self.outbox.append(payloads.account_event(self, "MARGIN_TRANSFER", symbols=(symbol,)))
        return {"amount": float(amount), "code": 200, "msg": "Successfully modify position margin.", "type": int(kind)}

    # -- margin -----------------------------------------------------------------------------------------------------

    def open_notional(self, symbol: str, extra: Order | None = None) -> tuple[Decimal, Decimal]:
        """Return the notional of open buys and sells that could add to a position."""
        sides = self._sides(symbol, extra)
        return sides[0][1], sides[1][1]

    def order_margin(self, symbol: str, extra: Order | None = None) -> Decimal:
        """Return the initial margin of open orders: of the side that needs more, without what would only close."""
        p = self.account.positions[symbol]
        held = int(abs(p.qty) / p.rules.step)
        need = ZERO
        for sign, (lots, notional) in zip((1, -1), self._sides(symbol, extra), strict=True):
            opening = max(0, lots - held) if p.sign == -sign else lots
            if opening:
                need = max(need, notional * opening / lots)
        return need / p.leverage

    def _sides(self, symbol: str, extra: Order | None) -> tuple[tuple[int, Decimal], tuple[int, Decimal]]:
        """Return lots and notional of the open buys, then of the sells, that are not reduce-only."""
        rules, book = self.rules[symbol], self.books[symbol]
        lots, cost = [0, 0], [0, 0]
        for order in (*self._open[symbol].values(), *(() if extra is None else (extra,))):
            if not order.reduce_only:
                side = 0 if order.buy else 1
                lots[side] += order.left
                cost[side] += order.left * (order.price or (book.ask if order.buy else book.bid))
        return (lots[0], rules.notional(cost[0])), (lots[1], rules.notional(cost[1]))

    def reserved(self) -> Decimal:
        """Return the margin of all open orders."""
        return sum((self.order_margin(symbol) for symbol in self.rules if self._open[symbol]), ZERO)

    def _watch_margin(self, symbol: str) -> None:
        if self.account.is_liquidated(symbol, self.marks()):
            self._liquidate(symbol)
            return
        p, mark = self.account.positions[symbol], self.mark(symbol)
        margin = (p.isolated_wallet if p.isolated else self.account.cross_wallet) + p.unrealized(mark)
        low = p.maintenance(mark) > MARGIN_CALL_AT * margin
        if low and not p.warned:
            self.outbox.append(payloads.margin_call(self, symbol))
        p.warned = low

    def _liquidate(self, symbol: str) -> None:
        """Close a position whose margin is used up, at the book or at the bankruptcy price, whichever is better.

        What is left of the margin pays the liquidation fee; the insurance fund bears what the margin cannot.
        """
        book, rules, p = self.books[symbol], self.rules[symbol], self.account.positions[symbol]
        for order in self.open_orders(symbol):
            book.expire(order, "5")
        for algo in self.algos.open(symbol):
            self.algos.end(algo, "EXPIRED")
        self._next_order += 1
        limit = self.account.bankruptcy(symbol) / rules.tick
        if p.sign > 0:
            price = max(book.bid, int(limit.to_integral_value(rounding="ROUND_CEILING")))
        else:
            price = max(1, min(book.ask, int(limit.to_integral_value(rounding="ROUND_FLOOR"))))
        order = Order(
            self._next_order,
            f"autoclose-{self.now_ms}{self._next_order}",
            symbol,
            p.sign < 0,
            "LIMIT",
            "IOC",
            int(abs(p.qty) / rules.step),
            price,
            True,
            self.now_ms,
            updated_ms=self.now_ms,
            liquidation=True,
        )
        self._report(Report("NEW", order))
        order.filled, order.cost, order.status = order.lots, order.lots * price, "FILLED"
        self._report(Report("TRADE", order, price, order.lots))

    # -- what the books report --------------------------------------------------------------------------------------

    def _room(self, order: Order) -> int:
        if not order.reduce_only:
            return UNBOUNDED
        p = self.account.positions[order.symbol]
        return int(abs(p.qty) / p.rules.step) if p.sign == -order.sign else 0

    def _report(self, report: Report) -> None:
        order = report.order
        order.updated_ms = self.now_ms
        if report.kind == "NEW":
            self.orders[order.order_id] = order
            self._by_client[order.symbol, order.client_id] = order
            self._open[order.symbol][order.order_id] = order
            self.outbox.append(payloads.order_event(self, order, "NEW"))
            return
        if not order.live:
            self._open[order.symbol].pop(order.order_id, None)
        if report.kind == "TRADE":
            self._trade(report)
        else:
            self.outbox.append(payloads.order_event(self, order, report.kind))
        if order.algo is not None and not order.live:
            self.algos.finished(order.algo)
        if report.kind == "TRADE":
            self._knock_out(order.symbol)
        self.note_naked(order.symbol)

    def _trade(self, report: Report) -> None:
        order, symbol = report.order, report.order.symbol
        rules, p = self.rules[symbol], self.account.positions[symbol]
        qty, price = rules.qty(report.lots), rules.price(report.price)
        rate = ZERO if order.liquidation else self.maker_fee if report.maker else self.taker_fee
        margin = p.isolated_wallet if p.isolated else self.account.cross_wallet
        booking = self.account.fill(symbol, order.sign, qty=qty, price=price, rate=rate, at_ms=self.now_ms)
        fee = booking.fee
        if order.liquidation:
            fee = max(ZERO, min(qty * price * rules.liquidation_fee, margin + booking.realized)).quantize(
                Decimal("0.00000001"), rounding="ROUND_DOWN"
            )
            self.account.charge(symbol, fee)
        self.account_ms = self.now_ms
        self._next_trade[symbol] += 1
        fill = Fill(
            self.now_ms, self._next_trade[symbol], order, report.lots, report.price, report.maker, fee, booking.realized
        )
        self.fills.append(fill)
        if booking.realized:
            self._income(symbol, "REALIZED_PNL", booking.realized, info=str(fill.trade_id))
        kind = "INSURANCE_CLEAR" if order.liquidation else "COMMISSION"
        self._income(symbol, kind, -fee, info=str(fill.trade_id))
        self.outbox.append(payloads.trade_lite(self, fill))
        pair = [
            payloads.account_event(self, "ORDER", symbols=(symbol,)),
            payloads.order_event(self, order, "CALCULATED" if order.liquidation else "TRADE", fill),
        ]
        # Binance promises no order between the two: every third fill tells the order first.
        self.outbox.extend(reversed(pair) if fill.trade_id % 3 == 0 else pair)

    def _knock_out(self, symbol: str) -> None:
        """End what can no longer reduce: reduce-only orders (er 4) and closePosition orders (GTE)."""
        sign = self.account.positions[symbol].sign
        for order in self.open_orders(symbol):
            if order.reduce_only and order.live and order.sign != -sign:
                self.books[symbol].expire(order, "4")
        for algo in self.algos.open(symbol):
            if algo.close_position and algo.status == "NEW" and algo.sign != -sign:
                self.algos.end(algo, "EXPIRED")

    def note_naked(self, symbol: str) -> None:
        """Keep the account of time without cover."""
        p = self.account.positions[symbol]
        naked = is_naked(p.qty, self.algos.open(symbol), step=p.rules.step)
        self.naked[symbol].update(self.now_ms, naked=naked)

    def _income(self, symbol: str, kind: str, amount: Decimal, *, info: str) -> None:
        self.incomes.append(
            {
                "symbol": symbol,
                "incomeType": kind,
                "income": f"{amount:f}",
                "asset": "USDT",
                "info": info,
                "time": self.now_ms,
                "tranId": 9_000_000_000 + len(self.incomes),
                "tradeId": info if kind != "FUNDING_FEE" else "",
            }
        )
