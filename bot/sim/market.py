"""The simulated market: recorded ticks, ticks between them, and the minutes on which bars close and funding is paid.

A recorded tick jumps to the next corner of its bar. Where a stop or a liquidation price lies on the straight line to
it, a tick is inserted at that price and time, so that a stop slips by the book and not by half a bar. While a MARKET
order waits for more, the book is replenished at the path's price after 50 to 250 ms.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from bot.core.types import to_decimal
from bot.sim.clock import Item
from bot.sim.draws import Draws
from bot.sim.feed import MarketFeed
from bot.sim.orders import Tick
from bot.sim.replay import MINUTE, Row, replay

if TYPE_CHECKING:
    from bot.sim.server import Exchange


class MarketDesk:
    """Schedules the market on the exchange's heap and follows up on its effects on the user's orders.

    Parameters
    ----------
    seed
        Seed of the replay and of the refills.
    spread
        Width of the book as a fraction of the price.
    depth_notional
        Typical quantity at the best price, USDT.
    """

    def __init__(
        self, exchange: "Exchange", feed: MarketFeed, *, seed: int, spread: float, depth_notional: float
    ) -> None:
        self._x, self._feed = exchange, feed
        self._spread, self._depth = spread, depth_notional
        self._draws = Draws(seed)
        self._rows = replay(
            exchange.candles,
            exchange.start_ms,
            exchange.end_ms,
            seed=seed,
            spread=spread,
            depth_notional=depth_notional,
        )
        self._symbols = list(exchange.venue.rules)
        self._legs: dict[str, tuple[int, int, int, int]] = {}  # from one tick to the next: time, price, time, price
        self._crossings: dict[str, Item] = {}
        self._refills: set[str] = set()
        self._told: dict[str, tuple[int, ...]] = {}  # the book last sent as bookTicker
        self._gaps: dict[str, tuple[float, int]] = {}  # price factor, end in ms
        self._thin: dict[str, tuple[float, int]] = {}  # quantity factor, end in ms
        for symbol in self._symbols:
            self._prime(symbol)

    def begin(self) -> None:
        """Schedule the first instant; each schedules the next one."""
        self._next_row()

    def follow_up(self, symbol: str | None = None) -> None:
        """Send pending user events; for a symbol also refill and publish its book and watch for stops on the path."""
        x = self._x
        x.tell_user()
        if x.venue.planned or x.venue.notices:
            self._plan()
        if symbol is None:
            return
        book, venue = x.venue.books[symbol], x.venue
        if book.working and symbol not in self._refills:
            self._refills.add(symbol)
            delay = 50 + int(200 * self._draws.uniform("refill", symbol, x.clock.time_ms))
            x.clock.at(x.clock.time_ms + delay, lambda: self._refill(symbol), name="refill", touches=False)
        shown = self._shown(symbol)
        if self._told[symbol] != shown and book.bid_lots > 0 and book.ask_lots > 0:
            self._told[symbol] = shown
            x.push(self._feed.book(symbol, venue.now_ms), "market")
        if venue.algos.live[symbol] or venue.account.positions[symbol].qty:
            self._watch_path(symbol)

    def _plan(self) -> None:
        """Schedule the venue's deferred actions and send its notices to the market streams."""
        x = self._x
        planned, x.venue.planned = x.venue.planned, []
        for at_ms, symbol, action in planned:

            def act(symbol: str = symbol, action: Callable[[], None] = action) -> None:
                x.venue.now_ms = x.clock.time_ms
                action()
                self.follow_up(symbol)

            x.clock.at(at_ms, act, name="deadline", touches=False)
        notices, x.venue.notices = x.venue.notices, []
        for symbol, event in notices:
            x.push(self._feed.special(symbol, event), "market")

    def gap(self, symbol: str, factor: float, until_ms: int) -> None:
        """Move the price by `factor` at once; it stays there until `until_ms`, or returns by the next tick."""
        _, _, due_ms, target = self._legs[symbol]
        price = max(1, round(self._path_price(symbol) * factor))
        self._gaps[symbol] = factor, until_ms
        self._legs[symbol] = (self._x.clock.time_ms, price, due_ms, self._bent(symbol, due_ms, target))
        self._between(symbol, price)

    def thin(self, symbol: str, share: float, until_ms: int) -> None:
        """Reduce the quantities of the symbol's book to a share until `until_ms`."""
        self._thin[symbol] = share, until_ms
        book = self._x.venue.books[symbol]
        book.bid_lots, book.ask_lots = max(1, int(book.bid_lots * share)), max(1, int(book.ask_lots * share))

    def _bent(self, symbol: str, at_ms: int, price: int) -> int:
        """Return a recorded price as moved by a gap."""
        factor, until_ms = self._gaps.get(symbol, (1.0, 0))
        return max(1, round(price * factor)) if at_ms < until_ms and price else price

    def _changed(self, row: Row) -> Row:
        """Return a tick as modified by faults: thinned, and on the coarser tick of a changed filter."""
        symbol = self._symbols[row[1]]
        row = list(row)
        share, until_ms = self._thin.get(symbol, (1.0, 0))
        if row[0] < until_ms:
            row[6], row[8] = max(1, int(row[6] * share)), max(1, int(row[8] * share))
        every = self._x.venue.rules[symbol].tick_every
        if every > 1:
            row[2] = max(1, round(row[2] / every)) * every
            row[5] = max(1, row[5] // every) * every
            row[7] = max(-(-row[7] // every) * every, row[5] + every)
        return row

    def _prime(self, symbol: str) -> None:
        """Set the book before the first tick from the last historical price."""
        x = self._x
        rules, price, start = x.venue.rules[symbol], x.candles[symbol].last_price(x.start_ms), x.start_ms
        width = max(1, round(price * self._spread))
        lots = max(1, int(self._depth / (price * float(rules.tick)) / float(rules.step)))
        bid = max(1, price - width // 2)
        x.venue.now_ms = start
        x.venue.tick(symbol, Tick(start, price, 0, False, bid, lots, bid + width, lots))
        self._told[symbol] = self._shown(symbol)
        self._legs[symbol] = (start, price, start, price)

    def _next_row(self) -> None:
        row = next(self._rows, None)
        if row is None:
            return
        if row[1] == MINUTE:
            self._x.clock.at(row[0], lambda: self._minute(row[0]), name="minute", rank=0, touches=False)
        else:
            self._x.clock.at(row[0], lambda: self._tick(row), name="tick", touches=False)

    def _tick(self, row: Row) -> None:
        if self._gaps:
            symbol = self._symbols[row[1]]
            moved = (self._bent(symbol, row[0], row[i]) for i in (2, 5, 7))
            row = list(row)
            row[2], row[5], row[7] = moved
            row[11] = self._bent(symbol, row[10], row[11])
        self._legs[self._symbols[row[1]]] = (row[0], row[2], row[10], row[11])
        try:
            self.apply(row)
        finally:
            self._next_row()

    def _minute(self, at_ms: int) -> None:
        try:
            self._pass_minute(at_ms)
        finally:
            self._next_row()

    def _pass_minute(self, at_ms: int) -> None:
        x = self._x
        x.venue.now_ms = at_ms
        if x.faults.on_minutes:
            for fault in x.faults.of_minute():
                x.market_faults.strike(fault)
        x.push(self._feed.closes(at_ms), "market")
        for symbol, schedule in x.funding.items():
            rate = schedule.at(at_ms)
            if rate:
                x.venue.pay_funding(symbol, to_decimal(rate))
        if x.keys.active and at_ms >= x.keys.until_ms:
            x.expire_key()
        self.follow_up()

    def apply(self, row: Row) -> None:
        """Apply one tick: time, symbol number, price and lots traded, whether the aggressor sold, book, trades."""
        symbol, venue = self._symbols[row[1]], self._x.venue
        if self._thin or venue.rules[symbol].tick_every > 1:
            row = self._changed(row)
        venue.now_ms = row[0]
        self._x.candles[symbol].tick(row[0], row[2], lots=row[3], seller=bool(row[4]), trades=row[9])
        venue.tick(symbol, Tick(row[0], row[2], row[3], bool(row[4]), row[5], row[6], row[7], row[8]))
        if row[3]:
            self._x.tapes[symbol].add(row[0], row[2], lots=row[3], seller=bool(row[4]), trades=row[9])
        self._x.push(self._feed.tick(symbol, row), "market")
        self._told[symbol] = self._shown(symbol)
        if (
            venue.outbox
            or venue.books[symbol].working
            or venue.algos.live[symbol]
            or venue.account.positions[symbol].qty
        ):
            self.follow_up(symbol)

    def _between(self, symbol: str, price: int) -> None:
        """Insert a tick between recorded ones: the book moves to `price`, replenished; nothing is traded."""
        now, rules = self._x.clock.time_ms, self._x.venue.rules[symbol]
        falling = price < self._x.venue.books[symbol].last
        width = max(1, round(price * self._spread))
        bid = max(1, price - width // 2)
        typical = self._depth / (price * float(rules.tick)) / float(rules.step)
        bids, asks = (
            max(1, int(typical * (0.5 + self._draws.uniform("between", symbol, now, side)))) for side in ("bid", "ask")
        )
        _, _, until, target = self._legs[symbol]
        self._legs[symbol] = (now, price, until, target)
        self.apply([now, self._symbols.index(symbol), price, 0, int(falling), bid, bids, bid + width, asks, 0])

    def _path_price(self, symbol: str) -> int:
        """Return the price on the straight line between two ticks of a bar, in ticks."""
        since, price, until, target = self._legs[symbol]
        if until <= since:
            return self._x.venue.books[symbol].last
        share = min(1.0, max(0.0, (self._x.clock.time_ms - since) / (until - since)))
        return round(price + (target - price) * share)

    def _watch_path(self, symbol: str) -> None:
        """Schedule a tick where the price will reach a stop or a liquidation before the next recorded tick."""
        planned = self._crossings.pop(symbol, None)
        if planned is not None:
            planned.cancel()
        since, price, until, target = self._legs[symbol]
        now = self._x.clock.time_ms
        if price == target or now >= until:
            return
        level = self._x.venue.next_level(symbol, price, target)
        if level is None:
            return
        at_ms = max(now, since + round((until - since) * (level - price) / (target - price)))
        if at_ms >= until:
            return

        def cross() -> None:
            here = self._path_price(symbol)
            # Rounding the time to ms may leave the path slightly short of the level.
            self._between(symbol, max(here, level) if target > price else min(here, level))

        self._crossings[symbol] = self._x.clock.at(at_ms, cross, name="stop on the way", touches=False)

    def _refill(self, symbol: str) -> None:
        """Replenish a book that a MARKET order is waiting on."""
        self._refills.discard(symbol)
        if self._x.venue.books[symbol].working:
            self._between(symbol, self._path_price(symbol))

    def _shown(self, symbol: str) -> tuple[int, ...]:
        book = self._x.venue.books[symbol]
        return book.bid, book.bid_lots, book.ask, book.ask_lots
