"""Market streams: frames of ticks and of closed bars, built only for streams with subscribers.

One tick makes at most one frame of each subscribed stream: bookTicker, aggTrade, the forming klines, markPrice (mark
and index are the last price), the 24-hour tickers and the one-level depth. A closed bar is one `x: true` frame per
interval, exactly once. Liquidations (forceOrder) and symbol changes (contractInfo) are sent as they happen. Streams of
all symbols begin with `!`; a name that does not exist, or is not in lower case, stays silent.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from bot.core.errors import ConfigError
from bot.core.klines import interval_ms
from bot.sim.candles import Candles
from bot.sim.errors import Refused
from bot.sim.funding import FundingSchedule, write_rate
from bot.sim.sockets import PushFrame, Socket, SocketHub
from bot.sim.tape import Tape
from bot.sim.tickers import day_event
from bot.sim.venue import Venue

Batches = dict[Socket, list[PushFrame]]
Build = Callable[[int, list[int] | None], Any]
MARKS: Final = ("markPrice", "markPrice@1s")
# Streams of all symbols and what each is made of; those with @arr carry a list.
EVERY: Final = {
    "!bookTicker": "bookTicker",
    "!markPrice@arr": "markPrice",
    "!markPrice@arr@1s": "markPrice",
    "!ticker@arr": "ticker",
    "!miniTicker@arr": "miniTicker",
}
SPECIAL: Final = {"forceOrder": "!forceOrder@arr", "contractInfo": "!contractInfo"}
DEPTHS: Final = ("depth", "depth5", "depth10", "depth20")
NAME: Final = re.compile(r"[!@\w]+", re.ASCII)  # a stream's name is copied into frames unescaped


class MarketFeed:
    """Builds frames for the hub's subscribers.

    Parameters
    ----------
    candles, funding, tapes
        Klines, funding schedules and trades by symbol.
    forming
        Whether kline streams also send the forming bar.
    """

    def __init__(
        self,
        venue: Venue,
        candles: dict[str, Candles],
        funding: dict[str, FundingSchedule],
        tapes: dict[str, Tape],
        *,
        hub: SocketHub,
        forming: bool = True,
    ) -> None:
        self._forming_too = forming
        self._venue, self._candles, self._funding, self._hub = venue, candles, funding, hub
        self._tapes = tapes
        self._version = -1
        self._ticks: dict[str, list[tuple[str, str, Build, list[Socket]]]] = {}
        self._books: dict[str, list[tuple[str, str, Build, list[Socket]]]] = {}
        self._closes: list[tuple[str, str, str, int, list[Socket]]] = []
        self._update = 1_000_000_000

    def tick(self, symbol: str, row: list[int]) -> Batches:
        """Return the frames of one tick (a row of `replay`)."""
        self._follow()
        return self._build(self._ticks[symbol], row[0], row)

    def book(self, symbol: str, at_ms: int) -> Batches:
        """Return the frames of a book that changed without a market trade."""
        self._follow()
        return self._build(self._books[symbol], at_ms, None)

    def closes(self, at_ms: int) -> Batches:
        """Return the frames of all bars that close at `at_ms`."""
        self._follow()
        batches: Batches = {}
        for symbol, stream, interval, length, sockets in self._closes:
            if at_ms % length:
                continue
            candles = self._candles[symbol]
            bar = candles.closed_bar(interval, at_ms)
            if bar is not None:
                k = candles.message(bar, candles.series(interval), closed=True)
                self._put(batches, stream, "kline", _kline(stream, symbol, at_ms, k), sockets)
        return batches

    def special(self, symbol: str, event: dict[str, Any]) -> Batches:
        """Return the frames of a rare event: forceOrder or contractInfo."""
        batches: Batches = {}
        name = event["e"]
        for stream in (f"{symbol.lower()}@{name}", SPECIAL[name]):
            self._put(batches, stream, name, event, self._hub.listeners(stream))
        return batches

    def _build(self, feeds: list[tuple[str, str, Build, list[Socket]]], at_ms: int, row: list[int] | None) -> Batches:
        batches: Batches = {}
        for stream, event, build, sockets in feeds:
            message = build(at_ms, row)
            if message is not None:
                self._put(batches, stream, event, message, sockets)
        return batches

    def _put(self, batches: Batches, stream: str, event: str, message: Any, sockets: list[Socket]) -> None:
        frame = PushFrame(stream, event, orjson.dumps(message))
        for socket in sockets:
            batches.setdefault(socket, []).append(frame)

    def _follow(self) -> None:
        """Update the subscribers after a change of subscriptions."""
        if self._version == self._hub.version:
            return
        self._version = self._hub.version
        self._ticks = {symbol: [] for symbol in self._venue.rules}
        self._books = {symbol: [] for symbol in self._venue.rules}
        self._closes = []
        for stream in sorted(self._hub.index):
            sockets = self._hub.listeners(stream) if NAME.fullmatch(stream) else []
            if sockets and stream in EVERY:
                for symbol in self._venue.rules:
                    self._listen(symbol, stream, EVERY[stream], sockets)
            symbol, at, rest = stream.partition("@")
            symbol, lower = symbol.upper().removesuffix("_PERPETUAL"), symbol == symbol.lower()
            if sockets and at and lower and symbol in self._venue.rules:
                self._listen(symbol, stream, rest, sockets)

    def _listen(self, symbol: str, stream: str, rest: str, sockets: list[Socket]) -> None:
        ticks, books = self._ticks[symbol], self._books[symbol]
        name = rest.partition("@")[0]
        if rest == "bookTicker":
            feed = (stream, "bookTicker", self._book_ticker(symbol), sockets)
            ticks.append(feed)
            books.append(feed)
        elif name in DEPTHS:
            feed = (stream, "depthUpdate", self._depth(symbol), sockets)
            ticks.append(feed)
            books.append(feed)
        elif rest == "aggTrade":
            ticks.append((stream, "aggTrade", self._agg_trade(symbol), sockets))
        elif rest in MARKS:
            ticks.append((stream, "markPriceUpdate", _listed(stream, self._mark(symbol)), sockets))
        elif rest in ("ticker", "miniTicker"):
            event = "24hrTicker" if rest == "ticker" else "24hrMiniTicker"
            ticks.append((stream, event, _listed(stream, self._day(symbol, event)), sockets))
        elif name.startswith(("kline_", "continuousKline_")):
            interval = name.partition("_")[2]
            try:
                self._candles[symbol].series(interval)
                length = interval_ms(interval)
            except (Refused, ConfigError):
                return  # an unknown name stays silent
            if self._forming_too:
                ticks.append((stream, "kline", self._forming(symbol, stream, interval), sockets))
            self._closes.append((symbol, stream, interval, length, sockets))

    def _book_ticker(self, symbol: str) -> Build:
        book, rules = self._venue.books[symbol], self._venue.rules[symbol]
        tick, step, digits, lots = float(rules.tick), float(rules.step), rules.price_digits, rules.qty_digits

        def build(at_ms: int, row: list[int] | None) -> dict[str, Any]:
            self._update += 1
            return {
                "e": "bookTicker",
                "u": self._update,
                "E": at_ms,
                "T": at_ms,
                "s": symbol,
                "b": f"{book.bid * tick:.{digits}f}",
                "B": f"{book.bid_lots * step:.{lots}f}",
                "a": f"{book.ask * tick:.{digits}f}",
                "A": f"{book.ask_lots * step:.{lots}f}",
                "ps": symbol,
                "st": 1,
            }

        return build

    def _depth(self, symbol: str) -> Build:
        book, rules = self._venue.books[symbol], self._venue.rules[symbol]

        def build(at_ms: int, row: list[int] | None) -> dict[str, Any]:
            self._update += 1
            return {
                "e": "depthUpdate",
                "E": at_ms,
                "T": at_ms,
                "s": symbol,
                "U": self._update,
                "u": self._update,
                "pu": self._update - 1,
                "b": [[f"{rules.price(book.bid):f}", f"{rules.qty(book.bid_lots):f}"]],
                "a": [[f"{rules.price(book.ask):f}", f"{rules.qty(book.ask_lots):f}"]],
            }

        return build

    def _agg_trade(self, symbol: str) -> Build:
        tape = self._tapes[symbol]

        def build(at_ms: int, row: list[int] | None) -> Any:
            return tape.event(symbol) if row is not None and row[3] > 0 else None

        return build

    def _day(self, symbol: str, event: str) -> Build:
        candles, venue = self._candles[symbol], self._venue

        def build(at_ms: int, row: list[int] | None) -> Any:
            return day_event(venue, candles, symbol, event, at_ms=at_ms)

        return build

    def _mark(self, symbol: str) -> Build:
        funding = self._funding[symbol]

        def build(at_ms: int, row: list[int] | None) -> dict[str, Any]:
            mark = f"{self._venue.mark(symbol):.8f}"
            next_ms, rate = funding.next(at_ms)
            return {
                "e": "markPriceUpdate",
                "E": at_ms,
                "s": symbol,
                "p": mark,
                "ap": mark,
                "i": mark,
                "P": mark,
                "r": write_rate(rate),
                "T": next_ms,
                "st": 1,
            }

        return build

    def _forming(self, symbol: str, stream: str, interval: str) -> Build:
        candles = self._candles[symbol]
        series = candles.series(interval)

        def build(at_ms: int, row: list[int] | None) -> dict[str, Any] | None:
            bar = candles.forming(interval, at_ms)
            if bar is None:
                return None
            return _kline(stream, symbol, at_ms, candles.message(bar, series, closed=False))

        return build


def _listed(stream: str, build: Build) -> Build:
    """Return `build`, its message wrapped in a list for streams with `@arr` in the name."""
    if "@arr" not in stream:
        return build

    def listed(at_ms: int, row: list[int] | None) -> Any:
        message = build(at_ms, row)
        return None if message is None else [message]

    return listed


def _kline(stream: str, symbol: str, at_ms: int, k: dict[str, Any]) -> dict[str, Any]:
    if "@continuousKline" in stream:
        k = {name: value for name, value in k.items() if name != "s"}
        return {"e": "continuous_kline", "E": at_ms, "ps": symbol, "ct": "PERPETUAL", "k": k}
    return {"e": "kline", "E": at_ms, "s": symbol, "k": k}
